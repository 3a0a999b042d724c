// Scenarios of `make chaos` in their short form: clients that ask for much, read little, or all come at once; other clocks; and
// a minute of everything.
import { suite } from '../chaos/suite.js';
import clock from '../chaos/scenarios/clock.js';
import endurance from '../chaos/scenarios/endurance.js';
import load from '../chaos/scenarios/load.js';

suite('chaos: clients that ask for much, read little, or all come at once; other clocks; and a minute of everything', [...load, ...clock, ...endurance]);
