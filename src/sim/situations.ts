/** What a run has been through. A campaign counts them, so that nobody believes in situations that never came up. */

export const situations = [
  'failover',
  'second_failover',
  'promoted_with_another_attached',
  'three_backups',
  'promoted_with_two_others_attached',
  'protected_again',
  'fault_during_reprotection',
  'reprotection_flush_failed',
  'died_before_siblings_were_listed',
  'heir_took_over',
  'test_and_set_lost',
  'open_generation_lost',
  'arbiter_answer_lost',
  'arbiter_out_of_reach',
  'arbiter_out_of_reach_on_one_side',
  'overtaken_on_another_connection',
  'disk_answer_lost',
  'backup_dropped',
  'output_held_at_death',
  'entries_lost_with_primary',
  'unconfirmed_sent_again',
  'frame_redelivered',
  'reissued_write',
  'late_old_primary',
  'late_frame_fenced',
  'primary_paused_and_woke',
  'took_over_from_living_primary',
  'flapping_link',
  'one_way_cut',
  'connection_reset',
  'slow_link',
  'disk_error',
  'slow_disk',
  'read_awaited',
  'read_pending_at_failover',
  'torn_write',
  'disk_host_crash',
  'unflushed_written_again',
  'switch_crash',
  'clock_jump',
  'hart_hang',
  'slow_hart',
  'lag_at_failover',
  'log_full',
  'lag_control',
  'host_crash',
  'unprotected_by_operator',
  'guest_reboot',
  'both_replicas_lost',
  'fault_while_joining',
  // The epoch discipline.
  'epoch_original',
  'epoch_revised',
  'epoch_ended_early',
  'failover_epoch_finished',
  'failover_tme_came',
  'uncertain_interrupt',
] as const

export type Situation = (typeof situations)[number]

export type SituationCounts = Record<Situation, number>

export function noSituations(): SituationCounts {
  return Object.fromEntries(situations.map((situation) => [situation, 0])) as SituationCounts
}
