// What the schema of the chart's values can't know from a default.

const nullable = (type, more = {}) => ({ type: [type, 'null'], ...more });
const strings = { type: 'array', items: { type: 'string' } };
const objects = { type: 'array', items: { type: 'object' } };
const words = (...names) => ({ type: 'string', enum: names });
const stringMap = { type: 'object', additionalProperties: { type: 'string' } };
const share = { type: ['integer', 'string'], minimum: 0, pattern: '^[0-9]+%$' };
const port = { type: 'integer', minimum: 1, maximum: 65535 };
const nodePort = nullable('integer', { minimum: 1, maximum: 65535 });
const pullPolicy = words('IfNotPresent', 'Always', 'Never');
const seconds = (minimum, maximum) => ({ type: 'integer', minimum, maximum });
const replicas = { type: ['integer', 'null'], minimum: 0, maximum: 10000 };
const resources = {
  type: 'object',
  additionalProperties: false,
  properties: Object.fromEntries(['requests', 'limits'].map((name) => [name, { type: 'object', additionalProperties: { type: ['string', 'number'] } }]).concat([['claims', objects]])),
};
const strict = (properties, required = []) => ({ type: 'object', additionalProperties: false, required, properties });
const access = words('anyone', 'authenticated', 'nobody');
const size = { type: ['string', 'integer'] };

/** The policy's document, as services/model/src/policy reads it. */
const policy = strict({
  anonymous: strict({ sessions: { type: 'boolean' }, producers: { type: 'boolean' } }),
  gateways: strict({
    drain_rate: { type: 'string' },
    rebalance: strict({ rate: { type: 'string' }, within: { type: 'integer', minimum: 5, maximum: 100 } }, ['rate']),
  }),
  rooms: {
    type: 'array',
    items: strict({
      match: { type: 'string' },
      history: strict({ size: { type: 'integer', minimum: 0, maximum: 1000000 }, age: { type: 'string' }, bytes: size }),
      join: access,
      publish: access,
      presence: { type: 'boolean' },
      slow: words('catch_up', 'latest', 'close'),
    }, ['match']),
  },
  producers: {
    type: 'array',
    items: strict({
      name: { type: 'string', minLength: 1, maxLength: 100 },
      key_sha256: { type: ['string', 'array'], items: { type: 'string' } },
      rooms: strings,
      rate: { type: 'string' },
      burst: { type: 'integer', minimum: 1 },
    }, ['name', 'key_sha256', 'rooms']),
  },
  client_events: {
    type: 'object',
    additionalProperties: strict({ room: { type: 'string' }, format: { type: 'string' } }, ['room']),
  },
  cloudevents: strict({ to: strict({ room: { type: 'string' }, user: { type: 'string' } }) }, ['to']),
  intake: strict({
    lists: {
      type: 'array',
      items: strict({ list: { type: 'string' }, room: { type: 'string' }, event: { type: 'string' }, format: { type: 'string' } }, ['list', 'room', 'event']),
    },
  }),
});

const hosts = {
  type: 'array',
  items: strict({ host: { type: 'string' }, path: { type: 'string' }, pathType: words('Exact', 'Prefix', 'ImplementationSpecific') }, ['host']),
};

/** Shapes by path. A key that is here is documented as a whole. */
export const shapes = {
  commonLabels: stringMap,
  commonAnnotations: stringMap,
  'image.pullPolicy': pullPolicy,
  'image.pullSecrets': { type: 'array', items: strict({ name: { type: 'string' } }, ['name']) },
  'redis.mode': words('standalone', 'sentinel', 'cluster'),
  'redis.nodes': { type: 'array', items: { type: 'string', pattern: '^.+:[0-9]+$' } },
  'redis.connections': seconds(1, 1000),
  'redis.waitReplicas': seconds(0, 10),
  'redis.embedded.image.pullPolicy': pullPolicy,
  'redis.embedded.maxmemory': { type: ['string', 'integer'], pattern: '^[0-9]+(kb|mb|gb|k|m|g)?$' },
  'redis.embedded.resources': resources,
  'redis.embedded.podSecurityContext': { type: 'object' },
  'redis.embedded.nodeSelector': stringMap,
  'redis.embedded.tolerations': objects,
  settings: { type: 'object' },
  policy,
  'producer.rooms': strings,
  'producer.rate': { type: 'string', pattern: '^([0-9]+/([0-9]+)?(s|m|h|d))?$' },
  'identity.publicKeys.files': strings,
  'pods.minReadySeconds': seconds(0, 3600),
  'pods.preStopSleepSeconds': seconds(0, 300),
  'pods.terminationMarginSeconds': seconds(6, 3600),
  'pods.strategy.maxSurge': share,
  'pods.strategy.maxUnavailable': share,
  'pods.nodeSelector': stringMap,
  'pods.tolerations': objects,
  'pods.topologySpreadConstraints': nullable('array', { items: { type: 'object' } }),
  'pods.annotations': stringMap,
  'pods.labels': stringMap,
  'pods.extraEnv': { type: 'array', items: { type: 'object', required: ['name'], properties: { name: { type: 'string' } } } },
  'pods.extraEnvFrom': objects,
  'pods.extraVolumes': objects,
  'pods.extraVolumeMounts': objects,
  'gateway.drain.timeoutSeconds': seconds(1, 3600),
  'gateway.drain.rate': seconds(10, 100000),
  'networkPolicy.clients': objects,
  'networkPolicy.producers': objects,
  'networkPolicy.metrics': objects,
  'networkPolicy.redis': objects,
  'networkPolicy.extraEgress': objects,
  'networkPolicy.redisPorts': { type: 'array', items: port },
  'networkPolicy.apiPorts': { type: 'array', items: port },
  'operator.watch': strings,
  'pushCluster.spec': { type: 'object' },
  'metrics.podMonitor.labels': stringMap,
  'metrics.podMonitor.metricRelabelings': objects,
  'metrics.serviceMonitor.labels': stringMap,
  'metrics.serviceMonitor.metricRelabelings': objects,
  'metrics.rules.labels': stringMap,
  'metrics.dashboards.annotations': stringMap,
  'test.timeoutSeconds': seconds(10, 3600),
};
for (const component of ['gateway', 'dispatcher', 'ingest', 'operator']) {
  Object.assign(shapes, {
    [`${component}.replicas`]: replicas,
    [`${component}.resources`]: resources,
    [`${component}.pdb.maxUnavailable`]: share,
    [`${component}.pdb.minAvailable`]: { ...share, type: ['integer', 'string', 'null'] },
    [`${component}.serviceAccount.annotations`]: stringMap,
    [`${component}.autoscaling.cpu`]: nullable('integer', { minimum: 1 }),
    [`${component}.autoscaling.memory`]: nullable('integer', { minimum: 1 }),
    [`${component}.autoscaling.metrics`]: objects,
    [`${component}.autoscaling.minReplicas`]: seconds(1, 10000),
    [`${component}.autoscaling.behavior`]: { type: 'object' },
    [`${component}.keda.triggers`]: objects,
    [`${component}.service.type`]: words('ClusterIP', 'NodePort', 'LoadBalancer'),
    [`${component}.service.externalTrafficPolicy`]: words('Cluster', 'Local'),
    [`${component}.service.loadBalancerSourceRanges`]: strings,
    [`${component}.service.annotations`]: stringMap,
    [`${component}.service.port`]: port,
    [`${component}.service.nodePort`]: nodePort,
    [`${component}.service.httpPort`]: port,
    [`${component}.service.grpcPort`]: port,
    [`${component}.service.httpNodePort`]: nodePort,
    [`${component}.service.grpcNodePort`]: nodePort,
    [`${component}.ingress.annotations`]: stringMap,
    [`${component}.ingress.hosts`]: hosts,
    [`${component}.ingress.tls`]: objects,
    [`${component}.httpRoute.annotations`]: stringMap,
    [`${component}.httpRoute.parentRefs`]: objects,
    [`${component}.httpRoute.hostnames`]: strings,
    [`${component}.grpcRoute.annotations`]: stringMap,
    [`${component}.grpcRoute.parentRefs`]: objects,
    [`${component}.grpcRoute.hostnames`]: strings,
  });
}

/** Values that are not in values.yaml: Helm gives them to every chart that is part of another. */
export const fixed = { global: { type: 'object', description: "The parent chart's values for all." } };

/** Settings that have a value of their own in the chart, or that the chart decides. */
export function ownSettings(key) {
  const own = ['gateway.listen', 'gateway.pod', 'gateway.address', 'ingest.http.listen', 'ingest.grpc.listen', 'broker.embedded.memory', 'identity.public_keys'];
  return own.includes(key) || ['redis.', 'gateway.drain.', 'policy.', 'admin.', 'client.', 'operator.'].some((section) => key.startsWith(section));
}
