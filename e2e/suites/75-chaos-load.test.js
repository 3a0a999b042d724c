// Scenarios of `make chaos` in their short form: clients that ask for much, read little, or all come at once.
import { suite } from '../chaos/suite.js';
import scenarios from '../chaos/scenarios/load.js';

suite("chaos: clients that ask for much, read little, or all come at once", scenarios);
