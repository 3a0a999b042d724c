// Machines whose clocks are an hour apart. Needs libfaketime, which can't change the clock of Redis: its memory allocator asks
// for the time before the library is ready.
import fs from 'node:fs';

const shape = 'alone';

/** Where Debian puts the library. */
function library() {
  for (const folder of fs.readdirSync('/usr/lib')) {
    const file = `/usr/lib/${folder}/faketime/libfaketimeMT.so.1`;
    if (fs.existsSync(file)) return file;
  }
  throw new Error('libfaketime is missing: scripts/prerequisites e2e');
}

/** A process with another clock; what measures how long something takes is left as it is. */
const clock = (more) => ({ LD_PRELOAD: library(), FAKETIME_DONT_FAKE_MONOTONIC: '1', FAKETIME_DONT_RESET: '1', ...more });

export default [
  {
    name: 'clock-services',
    shape,
    about: 'The clocks of services are an hour ahead, an hour behind, or right; one of them stands still meanwhile, and another is killed.',
    setup: () => ({ fleet: { each: (name) => ({ 'gateway-0': clock({ FAKETIME: '+1h' }), 'dispatcher-0': clock({ FAKETIME: '-1h' }), 'ingest-0': clock({ FAKETIME: '-1h' }), 'dispatcher-1': clock({ FAKETIME: '+1h' }) })[name] ?? {} } }),
    runs: { short: [{ away: true }], long: [{}, { away: true }] },
    async run(stage) {
      await stage.pass(stage.long ? 30 : 3);
      for (const name of stage.long ? ['dispatcher-0', 'dispatcher-1'] : ['dispatcher-0']) {
        await stage.fault(`${name} stands still`, async () => {
          stage.fleet.stop(name);
          await stage.fleet.owned();
        });
        stage.fleet.continue(name);
        await stage.flowing();
      }
      await stage.fault('gateway-0 is killed', async () => {
        await stage.fleet.kill('gateway-0');
        await stage.fleet.start('gateway-0');
      });
      await stage.flowing();
    },
  },
];
