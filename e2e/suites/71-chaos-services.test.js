// Scenarios of `make chaos` in their short form: Carillon's own processes are killed, stopped and cut off.
import { suite } from '../chaos/suite.js';
import scenarios from '../chaos/scenarios/services.js';

suite("chaos: Carillon's own processes are killed, stopped and cut off", scenarios);
