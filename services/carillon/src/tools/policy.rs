//! `carillon policy`: is a policy right, and which of its rules decides?

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use carillon_chassis::{policy_file::PolicyFileError, run::Misconfigured};
use carillon_model::{
    Room,
    policy::{Access, Policy, PolicyErrors, RoomRule, SlowSessions},
    room::RoomKind,
};
use clap::Subcommand;
use serde_json::json;

use super::{
    Ended, ToolArguments, examples,
    printer::{BAD, FAINT, GOOD, NAME, Printer, styled},
    run,
};
use crate::{broker, policy::of_snapshot, settings::Settings};

/// What to do with a policy.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Checks a policy file and tells all its mistakes
    #[command(after_help = examples::POLICY_CHECK)]
    Check {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        tool: ToolArguments,
    },
    /// Says which rule decides about a room, and what a user may do there: by the file, or else by the policy in Redis
    #[command(after_help = examples::POLICY_EXPLAIN)]
    Explain {
        /// The room
        room: String,
        /// The user; without one, an anonymous session
        user: Option<String>,
        #[command(flatten)]
        tool: ToolArguments,
    },
}

pub(crate) fn policy(command: PolicyCommand) -> ExitCode {
    match command {
        PolicyCommand::Check { file, tool } => run("carillon policy check", &tool, |_, printer| async move {
            check(&file, printer)
        }),
        PolicyCommand::Explain { room, user, tool } => {
            run("carillon policy explain", &tool, |settings, printer| async move {
                explain(&settings, &room, user.as_deref(), printer).await
            })
        }
    }
}

/// The mistakes of a policy, one a line, each with its file.
pub(super) fn lines(file: &Path, errors: &PolicyErrors) -> Vec<String> {
    let one = |error: &carillon_model::policy::PolicyError| match error.path.as_str() {
        "" => format!("{}: {}", file.display(), error.message),
        path => format!("{}: {path}: {}", file.display(), error.message),
    };
    errors.0.iter().map(one).collect()
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).map_err(|error| {
        let path = file.to_owned();
        PolicyFileError::Unreadable { path, error }.into()
    })
}

fn check(file: &Path, printer: Printer) -> anyhow::Result<Ended> {
    match Policy::parse_yaml(&read(file)?) {
        Ok(policy) => {
            let object = json!({ "ok": true, "file": file, "revision": &*policy.revision });
            printer.item(&object, || {
                format!(
                    "{} {}, revision {}",
                    styled(GOOD, "ok"),
                    file.display(),
                    policy.revision
                )
            })?;
            Ok(Ended::Well)
        }
        Err(errors) => {
            for (error, line) in errors.0.iter().zip(lines(file, &errors)) {
                let object =
                    json!({ "ok": false, "file": file, "path": error.path, "problem": error.message });
                printer.item(&object, || format!("{} {line}", styled(BAD, "bad")))?;
            }
            Ok(Ended::Mistaken)
        }
    }
}

/// The policy that services with these settings apply, and where it comes from: the file; without one what the operator
/// wrote into Redis; and where that is nothing, what is built in.
async fn in_force(settings: &Settings) -> anyhow::Result<(Policy, String)> {
    if let Some(file) = &settings.policy.file {
        let policy = Policy::parse_yaml(&read(file)?);
        let wrong = |errors: PolicyErrors| Misconfigured(lines(file, &errors).join("\n"));
        return Ok((policy.map_err(wrong)?, file.display().to_string()));
    }
    let snapshot = broker::redis(settings)?.load_policy().await;
    let snapshot =
        snapshot.context("which policy is in force is not known; name a file with --policy.file")?;
    let Some(snapshot) = snapshot else {
        let from = "the built-in policy, as there is none in Redis; name a file with --policy.file";
        return Ok((Policy::default_policy(), from.to_owned()));
    };
    let from = format!("the operator's policy in Redis, revision {}", snapshot.revision);
    let policy = of_snapshot(&snapshot).with_context(|| format!("{from}, is wrong"))?;
    Ok((policy, from))
}

async fn explain(
    settings: &Settings,
    room: &str,
    user: Option<&str>,
    printer: Printer,
) -> anyhow::Result<Ended> {
    let room = Room::new(room).map_err(|error| Misconfigured(error.to_string()))?;
    let (policy, from) = in_force(settings).await?;
    let place = policy.rule_of(&room);
    let rule = policy.room(&room);
    let named = match place {
        Some(place) => format!(
            "rooms[{place}], `{}`: the first that matches",
            rule.pattern.as_str()
        ),
        None => "no rule matches: the defaults for rooms without one".to_owned(),
    };
    let answers = answers(&policy, rule, &room, user);
    let object = json!({
        "room": room,
        "user": user,
        "policy": from,
        "rule": place,
        "match": place.map(|_| rule.pattern.as_str()),
        "answers": answers.iter().map(|(what, answer, why)| ((*what).to_owned(), json!({ "answer": answer, "why": why })))
            .collect::<serde_json::Map<_, _>>(),
    });
    printer.item(&object, || {
        let mut text = format!(
            "{} {}\n{named}",
            styled(NAME, &room),
            styled(FAINT, format!("in {from}"))
        );
        for (what, answer, why) in &answers {
            let style = if *answer == "no" { BAD } else { GOOD };
            let answer = styled(style, answer);
            text = format!("{text}\n  {what:<9} {answer}  {why}");
        }
        text
    })?;
    Ok(Ended::Well)
}

/// What is asked, the answer, and why.
type Answer = (&'static str, String, String);

fn answers(policy: &Policy, rule: &RoomRule, room: &Room, user: Option<&str>) -> Vec<Answer> {
    let who = user.map_or_else(
        || "an anonymous session".to_owned(),
        |user| format!("user {user}"),
    );
    let shut_out = user.is_none() && !policy.anonymous_sessions;
    let access = |what: &'static str, access: Access| {
        let allowed = !shut_out && access.allows(user.is_some());
        let why = if shut_out {
            "anonymous sessions may not connect (anonymous.sessions)".to_owned()
        } else {
            format!("{what}: {}; this is {who}", access_word(access))
        };
        (what, yes(allowed), why)
    };
    let join = match room.kind() {
        RoomKind::Named(_) => access("join", rule.join),
        _ if shut_out => access("join", rule.join),
        RoomKind::All => (
            "join",
            yes(true),
            "every session is in it, without asking".to_owned(),
        ),
        RoomKind::User(owner) => (
            "join",
            yes(user == Some(owner)),
            format!("the sessions of user {owner} are in it, without asking, and no others"),
        ),
        RoomKind::Session(id) => (
            "join",
            yes(false),
            format!("the session {id} is in it, without asking, and no other"),
        ),
    };
    let history = &rule.history;
    let kept = room.has_offsets() && history.keeps_any();
    let why = match (room.has_offsets(), kept) {
        (false, _) => "session rooms end with their connection".to_owned(),
        (true, false) => "history.size is 0".to_owned(),
        (true, true) => format!(
            "{} messages, {}, {} bytes at most",
            history.size,
            humantime::format_duration(history.age),
            history.bytes
        ),
    };
    vec![
        join,
        access("publish", rule.publish),
        ("history", yes(kept), why),
        (
            "presence",
            yes(rule.presence),
            format!("presence: {}", rule.presence),
        ),
        (
            "slow",
            slow_word(rule.slow).0.to_owned(),
            slow_word(rule.slow).1.to_owned(),
        ),
    ]
}

fn yes(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}

fn access_word(access: Access) -> &'static str {
    match access {
        Access::Anyone => "anyone",
        Access::Authenticated => "authenticated",
        Access::Nobody => "nobody",
    }
}

fn slow_word(slow: SlowSessions) -> (&'static str, &'static str) {
    match slow {
        SlowSessions::CatchUp => (
            "catch_up",
            "a session that falls behind gets what it missed from history",
        ),
        SlowSessions::Latest => (
            "latest",
            "a session that falls behind goes on with what is new, and is told",
        ),
        SlowSessions::Close => ("close", "a session that falls behind is closed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(yaml: &str, room: &str, user: Option<&str>, what: &str) -> String {
        let policy = Policy::parse_yaml(yaml).unwrap();
        let room = Room::new(room).unwrap();
        let answers = answers(&policy, policy.room(&room), &room, user);
        answers
            .into_iter()
            .find(|(asked, ..)| *asked == what)
            .map(|(_, answer, _)| answer)
            .unwrap()
    }

    #[test]
    fn the_answers_are_those_of_the_rules() {
        let yaml = "anonymous: { sessions: true }\nrooms:\n- { match: 'team-*', publish: authenticated, history: { size: 0 } }\n";
        assert_eq!(answer(yaml, "team-1", None, "join"), "no");
        assert_eq!(answer(yaml, "team-1", Some("42"), "join"), "yes");
        assert_eq!(answer(yaml, "team-1", Some("42"), "publish"), "yes");
        assert_eq!(answer(yaml, "lobby", Some("42"), "publish"), "no");
        assert_eq!(answer(yaml, "team-1", None, "history"), "no");
        assert_eq!(answer(yaml, "user:42", Some("42"), "join"), "yes");
        assert_eq!(answer(yaml, "user:42", Some("7"), "join"), "no");
        assert_eq!(
            answer("rooms: []", "all", None, "join"),
            "no",
            "it may not even connect"
        );
        assert_eq!(answer(yaml, "all", None, "join"), "yes");
    }
}
