// Scenarios of `make chaos` in their short form: a Redis Cluster.
import { suite } from '../chaos/suite.js';
import scenarios from '../chaos/scenarios/cluster.js';

suite("chaos: a Redis Cluster", scenarios);
