//! The inline policy that fences sessions: read, and rendered whole.
//!
//! Its own statements are told by their `Sid`. Whatever else somebody wrote into it is kept where it is: a fence that
//! deleted another's statement could open as much as it closes.

use hallpass_core::id::GrantId;
use hallpass_core::time::{Timestamp, Ttl};
use serde_json::{Map, Value, json};

/// IAM's limit for all inline policies of a role together, in characters that are no white space.
pub(super) const MAX_CHARACTERS: usize = 10_240;

const VERSION: &str = "2012-10-17";
/// The statement that names each session.
const SESSIONS: &str = "HallpassFence";
/// The statement that names all sessions before an instant.
const OLDER: &str = "HallpassFenceOlder";

/// A session to fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backend::aws) struct Entry {
    pub(in crate::backend::aws) session: String,
    /// The latest instant at which it can have been issued, by AWS's clock.
    pub(in crate::backend::aws) issued_by: Timestamp,
    /// Whether all older sessions may be fenced for its sake.
    pub(in crate::backend::aws) fences_all_older: bool,
}

/// What an inline policy of that name says, apart from what the broker wrote.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Others {
    /// Members of the policy beside its statements.
    members: Map<String, Value>,
    /// Statements of others, in their order.
    statements: Vec<Value>,
    /// What others added to the broker's own list.
    listed: Vec<String>,
}

/// A policy, and what it does.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rendering {
    /// None where nothing is to be there.
    pub(super) document: Option<Value>,
    /// Sessions that it fences.
    pub(super) fenced: Vec<String>,
    /// How many it has no room for.
    pub(super) left_out: usize,
    /// All sessions that were issued before are fenced, whosever they are.
    pub(super) older_than: Option<Timestamp>,
}

impl Others {
    /// Reads the policy that is there.
    pub(super) fn read(document: &Value) -> Result<Self, &'static str> {
        let object = document.as_object().ok_or("it is no JSON object")?;
        let statements = match object.get("Statement") {
            Some(Value::Array(statements)) => statements.clone(),
            Some(statement @ Value::Object(_)) => vec![statement.clone()],
            None => Vec::new(),
            Some(_) => return Err("its Statement is none"),
        };
        let mut others = Self { members: object.clone(), ..Self::default() };
        others.members.retain(|key, _| key != "Statement" && key != "Version");
        for statement in statements {
            match statement.get("Sid").and_then(Value::as_str) {
                Some(SESSIONS) => {
                    let listed = statement.pointer("/Condition/StringEquals/aws:userid").unwrap_or(&Value::Null);
                    let listed = listed.as_array().map_or(std::slice::from_ref(listed), Vec::as_slice);
                    let foreign = listed.iter().filter_map(Value::as_str).filter(|listed| !is_own(listed));
                    others.listed.extend(foreign.map(str::to_owned));
                }
                Some(OLDER) => {}
                _ => others.statements.push(statement),
            }
        }
        Ok(others)
    }

    fn is_nothing(&self) -> bool {
        self.statements.is_empty() && self.listed.is_empty()
    }

    /// The policy that fences `entries`, the first of them first, of the role with this unique id, in as many characters
    /// as there is `room` for.
    pub(super) fn render(&self, role_id: &str, entries: &[Entry], room: usize) -> Rendering {
        let userids = |entries: &[&Entry]| -> Vec<String> {
            entries.iter().map(|entry| format!("{role_id}:{}", entry.session)).collect()
        };
        let done = |listed: &[&Entry], older_than: Option<Timestamp>, left_out: usize| {
            let older = |entry: &&Entry| older_than.is_some_and(|than| entry.issued_by < than);
            let fenced = entries.iter().filter(|entry| listed.contains(entry) || older(entry));
            Rendering {
                document: self.document(&userids(listed), older_than),
                fenced: fenced.map(|entry| entry.session.clone()).collect(),
                left_out,
                older_than,
            }
        };
        let all: Vec<&Entry> = entries.iter().collect();
        let fits = self.room_for(role_id, &all, None, room);
        if fits == all.len() {
            return done(&all, None, 0);
        }
        if entries.iter().any(|entry| entry.fences_all_older) {
            // As few as possible: the newest are named, and only what is older than those goes as a whole.
            let mut newest = all.clone();
            newest.sort_by_key(|entry| std::cmp::Reverse(entry.issued_by));
            let named = self.room_for(role_id, &newest, Some(Timestamp::from_secs(0)), room);
            let (named, rest) = newest.split_at(named);
            if let Some(newest_of_rest) = rest.first() {
                // Times in policies are whole seconds; the second in which it was issued is fenced to its end.
                let than = newest_of_rest.issued_by.floor_to_second().plus(Ttl::from_secs(1));
                let named: Vec<&Entry> = named.iter().filter(|entry| entry.issued_by >= than).copied().collect();
                let rendering = done(&named, Some(than), 0);
                if rendering.document.as_ref().is_some_and(|document| characters(document) <= room) {
                    return rendering;
                }
            }
        }
        let listed = all.get(..fits).unwrap_or_default();
        done(listed, None, all.len().saturating_sub(fits))
    }

    /// How many sessions of the role with this unique id there is room for.
    pub(super) fn places(&self, role_id: &str, room: usize) -> usize {
        /// As long as every grant's.
        const SOME_GRANT: &str = "00000000-0000-7000-8000-000000000000";
        // With one that is as short as none: the statement itself takes room, too.
        let frame = self.document(&[String::new()], None).map_or(0, |document| characters(&document));
        let room = room.saturating_add(1).saturating_sub(frame.saturating_sub(2));
        room.checked_div(taken_by(role_id, SOME_GRANT)).unwrap_or_default()
    }

    /// How many of `entries`, the first of them first, there is room for.
    fn room_for(&self, role_id: &str, entries: &[&Entry], older_than: Option<Timestamp>, room: usize) -> usize {
        // With one that is as short as none: the statement itself takes room, too.
        let frame = self.document(&[String::new()], older_than).map_or(0, |document| characters(&document));
        let mut taken = frame.saturating_sub(2);
        let mut fits = 0_usize;
        for entry in entries {
            taken = taken.saturating_add(taken_by(role_id, &entry.session));
            if taken > room.saturating_add(1) {
                break;
            }
            fits = fits.saturating_add(1);
        }
        fits
    }

    fn document(&self, userids: &[String], older_than: Option<Timestamp>) -> Option<Value> {
        if userids.is_empty() && older_than.is_none() && self.is_nothing() {
            return None;
        }
        let mut statements = self.statements.clone();
        let listed: Vec<&String> = self.listed.iter().chain(userids).collect();
        if !listed.is_empty() {
            statements.push(deny(SESSIONS, &json!({"StringEquals": {"aws:userid": listed}})));
        }
        if let Some(than) = older_than {
            let condition = json!({"DateLessThan": {"aws:TokenIssueTime": than.floor_to_second().to_rfc3339()}});
            statements.push(deny(OLDER, &condition));
        }
        let mut document = self.members.clone();
        document.insert("Version".to_owned(), json!(VERSION));
        document.insert("Statement".to_owned(), Value::Array(statements));
        Some(Value::Object(document))
    }
}

/// With its quotes, and the comma before it or behind it.
fn taken_by(role_id: &str, session: &str) -> usize {
    role_id.len() + 1 + session.len() + 3
}

fn deny(sid: &str, condition: &Value) -> Value {
    json!({"Sid": sid, "Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition})
}

/// Whether an entry of the list is one that a broker writes: `<role id>:<grant id>`.
fn is_own(listed: &str) -> bool {
    listed.rsplit_once(':').is_some_and(|(_, session)| session.parse::<GrantId>().is_ok())
}

/// As IAM counts: without white space.
pub(super) fn characters(document: &Value) -> usize {
    document.to_string().chars().filter(|c| !c.is_whitespace()).count()
}

#[cfg(test)]
mod tests {
    use hallpass_core::testing::sample;
    use proptest::prelude::*;

    use super::*;

    const ROLE_ID: &str = "AROAEXAMPLEEXAMPLE123";

    fn entry(n: u64) -> Entry {
        Entry {
            session: sample::id::<GrantId>(n).to_string(),
            issued_by: Timestamp::from_secs(1_000 + i64::try_from(n).unwrap()),
            fences_all_older: false,
        }
    }

    fn entries(n: u64) -> Vec<Entry> {
        (1..=n).map(entry).collect()
    }

    fn listed(rendering: &Rendering) -> Vec<String> {
        let document = rendering.document.as_ref().unwrap();
        let statements = document["Statement"].as_array().unwrap();
        let own = statements.iter().find(|statement| statement["Sid"] == SESSIONS).unwrap();
        let listed = own["Condition"]["StringEquals"]["aws:userid"].as_array().unwrap();
        listed.iter().map(|listed| listed.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn each_session_is_named_and_no_wildcard_is() {
        let rendering = Others::default().render(ROLE_ID, &entries(2), MAX_CHARACTERS);
        let expected = entries(2).iter().map(|entry| format!("{ROLE_ID}:{}", entry.session)).collect::<Vec<_>>();
        assert_eq!(
            rendering.document,
            Some(json!({"Version": "2012-10-17", "Statement": [{
                "Sid": "HallpassFence", "Effect": "Deny", "Action": "*", "Resource": "*",
                "Condition": {"StringEquals": {"aws:userid": expected}},
            }]}))
        );
        assert_eq!((rendering.fenced.len(), rendering.left_out, rendering.older_than), (2, 0, None));
    }

    #[test]
    fn nothing_to_fence_is_no_policy() {
        assert_eq!(Others::default().render(ROLE_ID, &[], MAX_CHARACTERS).document, None);
        let written = Others::default().render(ROLE_ID, &entries(2), MAX_CHARACTERS).document.unwrap();
        let read = Others::read(&written).unwrap();
        assert_eq!(read, Others::default(), "what is over is forgotten");
        assert_eq!(read.render(ROLE_ID, &[], MAX_CHARACTERS).document, None);
    }

    #[test]
    fn what_others_wrote_stays() {
        let mut written = Others::default().render(ROLE_ID, &entries(1), MAX_CHARACTERS).document.unwrap();
        let theirs = json!({"Sid": "NoBilling", "Effect": "Deny", "Action": "billing:*", "Resource": "*"});
        written["Statement"].as_array_mut().unwrap().insert(0, theirs.clone());
        written["Id"] = json!("kept");
        let list = &mut written["Statement"][1]["Condition"]["StringEquals"]["aws:userid"];
        list.as_array_mut().unwrap().push(json!(format!("{ROLE_ID}:mallory")));
        let read = Others::read(&written).unwrap();
        let rendering = read.render(ROLE_ID, &entries(3), MAX_CHARACTERS);
        let document = rendering.document.clone().unwrap();
        assert_eq!((&document["Statement"][0], &document["Id"]), (&theirs, &json!("kept")));
        let listed = listed(&rendering);
        assert_eq!((listed.len(), listed[0].as_str()), (4, format!("{ROLE_ID}:mallory").as_str()));
        let empty = read.render(ROLE_ID, &[], MAX_CHARACTERS).document.unwrap();
        assert_eq!(empty["Statement"].as_array().unwrap().len(), 2, "theirs outlives ours");
        assert_eq!(Others::read(&json!("text")), Err("it is no JSON object"));
        assert_eq!(Others::read(&json!({"Statement": 1})), Err("its Statement is none"));
        let single = Others::read(&json!({"Statement": theirs})).unwrap();
        assert_eq!(single.statements, [theirs]);
    }

    #[test]
    fn without_room_the_first_are_fenced_and_the_rest_is_left_out() {
        let rendering = Others::default().render(ROLE_ID, &entries(500), MAX_CHARACTERS);
        assert_eq!(rendering.fenced.len() + rendering.left_out, 500);
        assert!(rendering.fenced.len() > 160 && rendering.left_out > 0);
        assert_eq!(
            rendering.fenced,
            entries(500)[..rendering.fenced.len()].iter().map(|e| e.session.clone()).collect::<Vec<_>>()
        );
        let document = rendering.document.unwrap();
        let one_more = ROLE_ID.len() + 1 + 36 + 3;
        let size = characters(&document);
        assert!(size <= MAX_CHARACTERS && size + one_more > MAX_CHARACTERS, "{size}");
        let none = Others::default().render(ROLE_ID, &entries(3), 100);
        assert_eq!((none.fenced.len(), none.left_out, none.document), (0, 3, None));
    }

    #[test]
    fn as_many_as_there_are_places_for_are_fenced_and_not_one_more() {
        let theirs = json!({"Sid": "X", "Effect": "Deny", "Action": "s3:*", "Resource": "*"});
        let beside = Others { statements: vec![theirs], ..Others::default() };
        for others in [Others::default(), beside] {
            for room in [0, 100, 200, 201, 5_000, MAX_CHARACTERS] {
                let places = others.places(ROLE_ID, room);
                assert_eq!(others.render(ROLE_ID, &entries(500), room).fenced.len(), places, "{room}");
            }
        }
        assert_eq!(Others::default().places(ROLE_ID, MAX_CHARACTERS), 165);
    }

    #[test]
    fn where_a_role_says_so_all_older_sessions_are_fenced_and_as_few_as_possible() {
        let mut entries = entries(500);
        entries[499].fences_all_older = true;
        let rendering = Others::default().render(ROLE_ID, &entries, MAX_CHARACTERS);
        assert_eq!((rendering.fenced.len(), rendering.left_out), (500, 0));
        let than = rendering.older_than.unwrap();
        let named = listed(&rendering);
        assert!(named.len() > 150, "{}", named.len());
        let oldest_named = entries.iter().find(|entry| named[named.len() - 1].ends_with(&entry.session)).unwrap();
        assert_eq!(oldest_named.issued_by, than, "the next older one is the first that is fenced with the rest");
        assert!(characters(&rendering.document.unwrap()) <= MAX_CHARACTERS);
        entries.truncate(100);
        assert_eq!(Others::default().render(ROLE_ID, &entries, MAX_CHARACTERS).older_than, None, "only without room");
    }

    proptest! {
        #[test]
        fn whatever_is_to_be_fenced_the_policy_fits_and_says_what_it_does(
            count in 0_u64..400,
            room in 0_usize..12_000,
            older in any::<bool>(),
            theirs in 0_usize..40,
        ) {
            let mut entries = entries(count);
            if let Some(first) = entries.first_mut() { first.fences_all_older = older; }
            let statements = vec![json!({"Sid": "X", "Effect": "Deny", "Action": "s3:*", "Resource": "*"}); theirs];
            let others = Others { statements, ..Others::default() };
            let rendering = others.render(ROLE_ID, &entries, room);
            let size = rendering.document.as_ref().map_or(0, characters);
            let theirs = others.document(&[], None).map_or(0, |document| characters(&document));
            prop_assert!(size <= room.max(theirs), "{size} of {room}");
            prop_assert_eq!(rendering.fenced.len() + rendering.left_out, entries.len());
            let text = rendering.document.map(|document| document.to_string()).unwrap_or_default();
            for entry in &entries {
                let named = text.contains(&format!("{ROLE_ID}:{}", entry.session));
                let older = rendering.older_than.is_some_and(|than| entry.issued_by < than);
                prop_assert_eq!(rendering.fenced.contains(&entry.session), named || older);
            }
            prop_assert!(!text.contains("*:") && !text.contains(":*\"]"));
        }
    }
}
