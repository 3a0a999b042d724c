// Machines whose clocks are an hour apart. Needs libfaketime.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { until } from '../../lib/until.js';

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
  {
    name: 'clock-redis',
    shape,
    about: 'The clock of Redis goes an hour ahead, and back. Everything with an expiry of less is gone at once, histories too, and whoever missed something is told.',
    setup: () => {
      const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-clock-')), 'clock');
      fs.writeFileSync(file, '+0');
      return { redis: { env: clock({ FAKETIME_TIMESTAMP_FILE: file, FAKETIME_NO_CACHE: '1' }) }, clock: file };
    },
    runs: { short: [{}], long: [{ away: true }] },
    async run(stage) {
      stage.bounded.push(...stage.rooms);
      const time = async () => Number((await stage.shape.server.cli('TIME')).split('\n')[0]);
      const before = await time();
      for (const [step, by] of [['+3600', 3_600], ['+0', 0]]) {
        await stage.fault(`the clock of Redis is set to ${step} s`, async () => {
          fs.writeFileSync(stage.setup.clock, step);
          await until('Redis sees it', async () => Math.abs((await time()) - before - by) < 600);
          await stage.fleet.owned();
          await until('all are ready', () => stage.fleet.names.every((name) => stage.fleet.isReady(name)), 60_000);
        }, { loses: true, cut: stage.fleet.of('gateway') });
        await stage.flowing();
        await stage.pass(stage.long ? 30 : 3);
      }
    },
  },
];
