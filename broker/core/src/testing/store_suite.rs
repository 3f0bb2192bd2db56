//! What every [`Store`] keeps, whatever database is below it. A store's tests run all of it:
//!
//! ```ignore
//! hallpass_core::store_suite!(fresh);
//! ```
//!
//! where `fresh` is an async function that answers a [`Fresh`] store. Each promise is a test of its own name. None waits:
//! time is what the calls say.

pub mod changes;
pub mod data_keys;
pub mod ended;
pub mod evidence;
pub mod families;
pub mod history;
pub mod keys;
pub mod lineages;
pub mod lists;
pub mod log;
pub mod opening;
pub mod quarantines;
pub mod queue;
pub mod quotas;
pub mod repeats;
pub mod replacing;
pub mod restores;
pub mod revocations;
pub mod spares;
pub mod standing;
pub mod statuses;
pub mod used_proofs;

use std::any::Any;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject, RecordedEntry};
use crate::credential::RevocationClass;
use crate::grant::Grant;
use crate::id::{GrantId, RequestId};
use crate::port::{
    Applied, AuditFilter, Change, IdempotencyClaim, LineageClaim, LineageKey, OpenOutcome, Opening, Page, PageRequest,
    ProofUse, Quotas, Store, StoreError,
};
use crate::testing::sample;
use crate::time::{Timestamp, Ttl};

/// An empty store, with what must outlive it (a folder, a server).
pub struct Fresh {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Dropped after it.
    pub keep: Box<dyn Any + Send + Sync>,
}

impl Debug for Fresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fresh").finish_non_exhaustive()
    }
}

/// Makes one test of each promise. `$fresh` is the path of an `async fn() -> Fresh`.
#[macro_export]
macro_rules! store_suite {
    ($fresh:path) => {
        $crate::store_suite!($fresh;
            opening {
                what_was_opened_is_read_back_whole,
                nothing_is_read_that_was_not_opened,
                a_proof_opens_one_grant,
                a_hundred_openings_with_one_proof_give_one_grant,
                the_same_proof_id_of_another_issuer_is_another_proof,
                a_refused_opening_consumes_nothing,
                an_opening_that_was_decided_before_the_epoch_moved_is_decided_again,
                a_clock_that_is_behind_opens_nothing,
                an_opening_that_cannot_be_written_fails_alone,
                a_status_index_is_given_once,
            }
            repeats {
                a_repeated_key_ends_the_earlier_grant_and_opens_a_fresh_one,
                a_superseded_grant_that_lives_elsewhere_is_left_to_the_workers,
                a_repeat_ends_nothing_that_has_ended,
                a_key_with_another_request_is_refused,
                a_repeat_does_not_undo_a_revocation,
                a_key_whose_grant_is_pending_has_to_wait,
                a_key_is_repeated_three_times_at_most,
                a_used_proof_is_accepted_again_with_its_own_key_only,
                of_openings_with_one_key_at_once_one_stays_active,
            }
            replacing {
                a_replaced_grant_ends_with_the_opening_of_its_successor,
                a_replaced_grant_ends_when_its_successor_becomes_active,
                what_cannot_be_replaced_is_left_as_it_is,
            }
            families {
                what_is_derived_ends_with_what_it_is_derived_from,
                what_is_derived_ends_when_a_set_does_or_another_takes_the_place,
                nothing_is_derived_from_what_has_ended,
                no_more_is_derived_than_can_end_at_once,
                one_actor_has_its_share_of_what_is_derived,
                what_is_derived_is_alive_while_all_above_it_is,
                what_a_revocation_selects_ends_by_that_also_below_what_it_ends,
                whoever_acts_is_found_by_what_it_is_and_runs,
                an_opening_for_another_consumes_both_proofs_or_none,
                a_quarantine_stops_whoever_acts_in_anothers_name,
            }
            lineages {
                a_lineage_goes_on_until_it_pauses,
                a_lineage_is_of_one_workload_and_one_role,
                terms_from_another_lineage_are_decided_again,
                renewing_makes_a_lineage_longer,
                renewing_makes_a_lineage_of_a_repository_longer,
                lineages_are_purged_when_they_are_over_and_not_before,
            }
            changes {
                a_change_is_written_with_its_entry_and_its_decision,
                every_state_is_read_back_as_it_was_written,
                a_change_from_another_version_conflicts_and_writes_nothing,
                a_change_to_what_is_not_there_conflicts,
                of_many_changes_from_one_version_one_is_written,
                a_change_that_was_decided_before_the_epoch_moved_is_decided_again,
                a_change_consumes_a_proof_once_and_only_when_it_is_written,
                a_better_handle_takes_the_place_of_the_planned_one,
            }
            queue {
                what_is_due_is_given_out_longest_due_first,
                what_ends_by_itself_is_not_given_out,
                what_is_held_is_given_to_nobody_else,
                each_share_is_given_out_apart,
                a_hold_is_released_by_its_holder_only,
                a_change_releases_its_hold,
                a_change_under_a_lost_hold_is_refused,
                somebody_elses_change_does_not_lift_a_hold,
                each_due_grant_goes_to_one_of_many_workers,
                a_missed_heartbeat_is_due,
                silence_counts_from_the_start_of_a_broker,
                what_is_over_expires_as_the_domain_says,
                expiry_stops_at_its_limit_and_goes_on_from_there,
                records_are_purged_after_their_horizon_and_not_before,
            }
            spares {
                a_spare_is_read_back_as_it_was_kept,
                a_spare_goes_to_one_grant,
                a_refused_opening_takes_no_spare,
                a_spare_is_forgotten_when_nobody_took_it_and_purged_when_it_is_long_over,
            }
            quotas {
                a_role_has_no_more_live_grants_than_it_may,
                an_owners_roles_together_have_no_more_than_they_may,
                whatever_ends_a_grant_makes_room_for_another,
                an_opening_over_its_quota_consumes_nothing,
                what_fails_beside_an_opening_is_not_counted,
                of_many_openings_at_once_no_more_than_the_quota_succeed,
            }
            lists {
                each_filter_finds_its_grants_and_no_others,
                filters_given_together_must_all_match,
                pages_hold_every_match_once_newest_first,
                what_is_opened_meanwhile_does_not_disturb_a_walk,
                a_page_is_never_larger_than_the_largest,
                a_page_has_no_more_bytes_than_it_may,
                a_page_of_the_log_has_no_more_bytes_than_it_may,
                a_cursor_from_elsewhere_is_refused,
                refused_credentials_are_listed_until_they_are_over,
            }
            ended {
                what_is_over_and_may_still_work_is_told_with_its_handle,
                what_a_fence_holds_is_told_in_parts,
                a_fence_is_asked_to_hold_no_more_than_it_can,
            }
            data_keys {
                data_keys_are_read_back_as_they_were_kept,
                a_wrapping_takes_the_place_of_none_but_the_one_that_was_read,
                a_change_of_data_keys_is_written_whole_with_its_entries,
                what_is_sealed_under_the_present_key_is_left_alone,
            }
            keys {
                keys_are_read_back_as_they_were_kept,
                the_private_half_of_a_key_that_is_here_only_goes,
                a_change_of_keys_is_written_whole_with_its_entries,
                a_change_that_distrusts_moves_the_epoch,
            }
            statuses {
                what_ended_early_keeps_its_place_in_the_list,
                a_list_that_no_grant_is_in_is_none,
            }
            revocations {
                a_selection_is_what_the_selector_matches,
                nothing_is_ended_that_its_author_may_not_end,
                a_revocation_holds_from_its_commit_on,
                a_revocation_by_the_key_that_signed_holds_from_its_commit_on,
                what_follows_is_ended_as_the_domain_says,
                each_chunk_is_told_with_its_grants,
                a_complete_revocation_holds_no_longer,
                a_revocation_is_begun_once_under_its_key,
                revocations_that_run_are_bounded,
                what_a_distrusted_key_signed_has_a_place_of_its_own,
                revocations_are_listed_by_author,
                a_page_of_revocations_has_no_more_bytes_than_it_may,
            }
            restores {
                a_restore_ends_what_the_copy_holds_from_its_commit_on,
                a_spare_of_an_older_copy_goes_to_nobody,
                a_restore_is_recorded_once_until_something_follows_it,
                status_indexes_that_may_have_been_given_out_are_given_up,
                a_restore_waits_for_no_place_and_for_no_clock_that_is_behind,
            }
            quarantines {
                a_quarantine_stops_what_would_be_opened_or_renewed,
                a_quarantine_is_of_the_roles_of_its_author,
                a_quarantine_ends,
                quarantines_in_force_are_bounded,
                nobody_takes_every_place_for_quarantines,
                wide_quarantines_and_halts_have_places_of_their_own,
                one_author_has_a_few_halts_beside_its_quarantines,
                a_revocation_brings_its_quarantine_along,
                a_page_of_quarantines_has_no_more_bytes_than_it_may,
            }
            used_proofs {
                a_proof_is_told_to_be_used_once_a_grant_was_opened_with_it,
            }
            standing {
                the_oldest_of_what_waits_is_told,
                a_fence_that_stands_is_not_unconfirmed,
                live_grants_are_counted_by_state,
            }
            evidence {
                entries_have_places_without_gaps,
                entries_of_a_refused_change_are_not_written,
                entries_are_found_by_request_and_by_grant,
                entries_are_paged_oldest_first,
                decisions_are_read_back_newest_first,
                moving_the_epoch_tells_of_itself,
                a_healthy_store_says_so,
            }
            log {
                the_tree_is_built_over_the_entries_as_they_are_read,
                the_tree_stands_at_what_is_committed_and_no_further,
                every_entry_is_shown_to_be_in_the_log_at_every_length_since,
                the_log_is_shown_to_begin_with_what_it_was,
                leaves_are_read_in_their_order,
                the_newest_checkpoint_is_read_back_as_it_was_kept,
                how_far_an_export_has_come_is_remembered_and_never_goes_back,
            }
            history {
                the_last_published_revision_is_in_force,
                a_revision_is_put_in_force_between_its_commit_and_its_epoch,
                what_was_published_is_read_back_whole,
                of_two_publications_upon_one_revision_one_is_written,
                a_publication_that_was_decided_before_the_epoch_moved_is_decided_again,
                publications_are_paged_newest_first,
                the_content_of_the_oldest_makes_room,
                live_grants_are_counted_by_role_and_by_policy,
            }
        );
    };
    ($fresh:path; $($room:ident { $($promise:ident,)+ })+) => {
        $($(
            #[tokio::test]
            async fn $promise() {
                let fresh = $fresh().await;
                $crate::testing::store_suite::$room::$promise(&fresh.store).await;
            }
        )+)+
    };
}

/// An opening of the active, fenced grant `n` at `now`, with nothing that could refuse it.
#[must_use]
pub fn opening(store: &Arc<dyn Store>, n: u64, now: Timestamp) -> Opening {
    opening_of(store, sample::active(n, RevocationClass::Fenced, now), n)
}

/// The same of a grant made elsewhere.
#[must_use]
pub fn opening_of(store: &Arc<dyn Store>, mut grant: Grant, n: u64) -> Opening {
    let now = grant.record.created_at;
    grant.record.status_index = store.next_status_index();
    Opening {
        handle: sample::handle(n),
        decision: sample::decision(n),
        entries: vec![entry_about(grant.record.id, AuditAction::GrantOpen, now)],
        proof_use: None,
        acting: None,
        idempotency: None,
        lineage: LineageClaim { key: lineage_key(&grant), fresh: sample::id(1_000_000 + n), assumed_start: None },
        quotas: Quotas::NONE,
        epoch: store.epoch(),
        now,
        fenced_by_record: true,
        replaced: None,
        spare: None,
        grant,
    }
}

/// The use of proof `id`, kept for an hour from `now`.
#[must_use]
pub fn proof(id: &str, now: Timestamp) -> ProofUse {
    ProofUse {
        issuer: crate::id::IssuerName::new("ci").unwrap(),
        proof_id: id.to_owned(),
        keep_until: now.plus(Ttl::from_hours(1)),
    }
}

/// Key `scope` with request `digest`, kept for an hour from `now`.
#[must_use]
pub fn key(scope: u8, digest: u8, now: Timestamp) -> IdempotencyClaim {
    IdempotencyClaim { scope: [scope; 32], request_digest: [digest; 32], keep_until: now.plus(Ttl::from_hours(1)) }
}

/// Whose lineage a grant belongs to.
#[must_use]
pub fn lineage_key(grant: &Grant) -> LineageKey {
    let holder = &grant.record.holder;
    LineageKey { issuer: holder.issuer.clone(), subject: holder.subject.clone(), role: grant.record.role.clone() }
}

/// An entry of the broker's about a grant, in the request of the same number as the grant.
#[must_use]
pub fn entry_about(id: GrantId, action: AuditAction, now: Timestamp) -> AuditEntry {
    let request: RequestId = id.as_uuid().into();
    AuditEntry::success(now, Actor::Broker, action, AuditObject::Grant { id }).in_request(request)
}

/// Opens what must open.
pub async fn open(store: &Arc<dyn Store>, opening: Opening) -> Grant {
    match store.open(opening).await.unwrap() {
        OpenOutcome::Opened(grant) => *grant,
        refused => panic!("an opening was refused: {refused:?}"),
    }
}

/// Applies what must be applied; answers the grant after it.
pub async fn apply(store: &Arc<dyn Store>, grant: Grant, action: AuditAction, now: Timestamp) -> Grant {
    let entry = entry_about(grant.record.id, action, now);
    let applied = store.apply(Change::of(grant.clone(), entry)).await.unwrap();
    assert_eq!(applied, Applied::Done);
    grant
}

/// Reads a grant that must be there.
pub async fn read(store: &Arc<dyn Store>, id: GrantId) -> Grant {
    store.grant(id).await.unwrap().expect("the grant is there")
}

/// Every audit entry that matches, page by page.
pub async fn audit_of(store: &Arc<dyn Store>, filter: &AuditFilter) -> Vec<RecordedEntry> {
    let mut page = PageRequest { cursor: None, limit: 7 };
    let mut entries = Vec::new();
    loop {
        let got = store.audit(filter, &page).await.unwrap();
        entries.extend(got.items);
        let Some(next) = got.next else { return entries };
        page.cursor = Some(next);
    }
}

/// The audit entries about a grant.
pub async fn audit_about(store: &Arc<dyn Store>, id: GrantId) -> Vec<RecordedEntry> {
    audit_of(store, &AuditFilter { grant: Some(id), ..AuditFilter::default() }).await
}

/// Every page of a list, as large as they come: how many items each has.
pub async fn pages_of<T, F>(mut read: impl FnMut(PageRequest) -> F) -> (Vec<usize>, Vec<T>)
where
    F: Future<Output = Result<Page<T>, StoreError>>,
{
    let (mut sizes, mut items) = (Vec::new(), Vec::new());
    let mut wanted = PageRequest { cursor: None, limit: PageRequest::MAX_LIMIT };
    loop {
        let page = read(wanted.clone()).await.unwrap();
        sizes.push(page.items.len());
        items.extend(page.items);
        let Some(next) = page.next else { return (sizes, items) };
        wanted.cursor = Some(next);
    }
}

/// A text of which two fit on a page and three do not.
#[must_use]
pub fn long_text() -> String {
    "x".repeat(PageRequest::MAX_BYTES * 2 / 5)
}

/// How many audit entries there are.
pub async fn audit_len(store: &Arc<dyn Store>) -> usize {
    audit_of(store, &AuditFilter::default()).await.len()
}

/// Runs all at once and answers in order.
async fn at_once<T, F>(calls: impl IntoIterator<Item = F>) -> Vec<Result<T, StoreError>>
where
    T: Send + 'static,
    F: Future<Output = Result<T, StoreError>> + Send + 'static,
{
    let running: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
    let mut answers = Vec::with_capacity(running.len());
    for task in running {
        answers.push(task.await.unwrap());
    }
    answers
}

async fn open_at_once(store: &Arc<dyn Store>, openings: Vec<Opening>) -> Vec<Result<OpenOutcome, StoreError>> {
    at_once(openings.into_iter().map(|opening| {
        let store = Arc::clone(store);
        async move { store.open(opening).await }
    }))
    .await
}
