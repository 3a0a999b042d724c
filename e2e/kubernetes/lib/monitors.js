// What a Prometheus operator makes of a PodMonitor or a ServiceMonitor: pods to scrape, with the labels they get. A cluster
// of tests has no such operator; its documentation of both kinds says what is done here.

/** Whether a selector takes labels. */
const selects = ({ matchLabels = {}, matchExpressions = [] }, labels) => Object.entries(matchLabels).every(([key, value]) => labels[key] === value)
  && matchExpressions.every(({ key, operator, values }) => {
    if (operator !== 'In') throw new Error(`${operator} is not understood`);
    return values.includes(labels[key]);
  });

/** A label of Kubernetes as Prometheus spells it. */
const spelled = (key) => key.replace(/\W/g, '_');

/** The labels of an object that a monitor passes on. */
const passed = (keys = [], { metadata }) => Object.fromEntries(keys.filter((key) => metadata.labels[key]).map((key) => [spelled(key), metadata.labels[key]]));

/** Of a pod: the container with a port, and the port. */
const open = (pod, wanted) => pod.spec.containers.flatMap(({ name, ports = [] }) => ports.filter(wanted).map(({ containerPort }) => ({ container: name, port: containerPort })));

const target = (pod, { container, port }, path, labels) => ({
  pod, port, path, labels: { namespace: pod.metadata.namespace, pod: pod.metadata.name, container, instance: `${pod.status.podIP}:${port}`, ...labels },
});

/** Both kinds: the monitor, and the pods and Services of its namespace → what is scraped. */
export const targets = {
  PodMonitor({ metadata, spec }, { pods }) {
    return pods.filter((pod) => selects(spec.selector, pod.metadata.labels)).flatMap((pod) => spec.podMetricsEndpoints.flatMap((endpoint) => open(pod, ({ name }) => name === endpoint.port)
      .map((found) => target(pod, found, endpoint.path, {
        endpoint: endpoint.port,
        job: pod.metadata.labels[spec.jobLabel] ?? `${metadata.namespace}/${metadata.name}`,
        ...passed(spec.podTargetLabels, pod),
      }))));
  },
  ServiceMonitor({ spec }, { pods, services }) {
    return services.filter((service) => selects(spec.selector, service.metadata.labels)).flatMap((service) => spec.endpoints.flatMap((endpoint) => {
      const { targetPort } = service.spec.ports.find(({ name }) => name === endpoint.port);
      return pods.filter((pod) => selects({ matchLabels: service.spec.selector }, pod.metadata.labels))
        .flatMap((pod) => open(pod, ({ name, containerPort }) => [name, containerPort].includes(targetPort)).map((found) => target(pod, found, endpoint.path, {
          endpoint: endpoint.port,
          service: service.metadata.name,
          job: service.metadata.labels[spec.jobLabel] ?? service.metadata.name,
          ...passed(spec.targetLabels, service),
        })));
    }));
  },
};
