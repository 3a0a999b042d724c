// Scenarios of `make chaos` in their short form: one Redis server in trouble.
import { suite } from '../chaos/suite.js';
import scenarios from '../chaos/scenarios/redis.js';

suite("chaos: one Redis server in trouble", scenarios);
