// The operator: custom resources in, policy out.
import { above, below, dashboard, lines, now, processOf, quantile, rate, S, stat, states } from './parts.mjs';

export default dashboard({
  name: 'operator',
  title: 'Operator',
  description: 'Whether custom resources become policy, and who applies it.',
  sections: [
    ['Now', [
      stat('Leaders', 'Operators that lead: exactly one.', `sum(${now('carillon_operator_leader')})`, { thresholds: { base: 'red', at: [[1, 'green'], [2, 'red']] } }),
      stat('Reaches Redis', 'Whether the operator reaches Redis. Away, the last policy stays in force.', `max(${now('carillon_operator_redis_up')})`, { thresholds: below(1), mappings: [{ type: 'value', options: { 0: { text: 'no', index: 0 }, 1: { text: 'yes', index: 1 } } }] }),
      stat('Refused objects', 'Custom resources that were not accepted; their status says why.', `sum(${now('carillon_operator_objects', 'accepted="false"')})`, { thresholds: above(1) }),
      stat('Pods pending', 'Pods that have not taken the newest policy.', `max(${now('carillon_operator_pods', 'state="pending"')})`, { thresholds: above(1) }),
      stat('Pods programmed', 'Pods that apply the newest policy.', `max(${now('carillon_operator_pods', 'state="programmed"')})`),
      stat('Failures', 'Reconciliations per second that failed.', `sum(${rate('carillon_operator_reconciliations_total', 'result="failed"')})`, { unit: 'cps', thresholds: above(0.01) }),
    ]],
    ['Work', [
      lines('Reconciliations', 'Per second, by kind and result.', [[`sum by (kind, result) (${rate('carillon_operator_reconciliations_total')})`, '{{kind}} {{result}}']], { unit: 'cps' }),
      lines('A reconciliation takes', '99 % of them, by kind.', [[quantile(0.99, 'carillon_operator_reconciliation_seconds', 'kind'), '{{kind}}']], { unit: 's', thresholds: above(1, 10) }),
      lines('Objects', 'Custom resources by kind, accepted or not.', [[`max by (kind, accepted) (${now('carillon_operator_objects')})`, '{{kind}} accepted: {{accepted}}']]),
      lines('Pods of the newest policy', 'Programmed on how many, pending on how many.', [[`max by (state) (${now('carillon_operator_pods')})`, '{{state}}']], { stack: true }),
      lines('Written', 'Snapshots written to Redis and keys of producers rotated.', [[`sum(${rate('carillon_operator_snapshots_written_total')})`, 'snapshots'], [`sum(${rate('carillon_operator_keys_rotated_total')})`, 'keys rotated']], { unit: 'cps' }),
      states('Leads', 'Which operator leads.', [[now('carillon_operator_leader'), '{{pod}}']], { good: 'leads', bad: 'stands by', width: 8 }),
      lines('Processors', 'Cores in use by operator.', [[`rate(process_cpu_seconds_total{${S}}[$__rate_interval]) and on (namespace, pod, instance) carillon_operator_leader`, '{{pod}}']], { unit: 'none' }),
      lines('Memory', 'Resident memory by operator.', [[processOf(`process_resident_memory_bytes{${S}}`, 'carillon_operator_leader'), '{{pod}}']], { unit: 'bytes' }),
    ]],
  ],
});
