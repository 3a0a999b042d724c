// Scenarios of `make chaos` in their short form: Redis behind Sentinels.
import { suite } from '../chaos/suite.js';
import scenarios from '../chaos/scenarios/sentinel.js';

suite("chaos: Redis behind Sentinels", scenarios);
