//! Where CloudEvents go: `cloudevents: { to: { room: "orders-{subject}" } }`.

use std::fmt;

use super::{Format, PolicyError, document::EventTargetDocument};
use crate::Target;

/// The attributes of an event that a template may name.
const HOLES: [&str; 3] = ["subject", "source", "type"];

/// A template that an event's attributes are filled into: the name of a room, or the id of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRoute {
    kind: Kind,
    format: Format,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Room,
    User,
}

impl Kind {
    fn target(self, name: String) -> Target {
        match self {
            Self::Room => Target::Room(name),
            Self::User => Target::User(name),
        }
    }

    const fn field(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::User => "user",
        }
    }
}

impl EventRoute {
    /// The target of an event with these attributes; the error is the name of one that the template needs and the
    /// event has not.
    pub fn target<'a>(&self, attribute: impl Fn(&str) -> Option<&'a str>) -> Result<Target, &str> {
        if let Some(absent) = self.format.holes().find(|hole| attribute(hole).is_none()) {
            return Err(absent);
        }
        Ok(self
            .kind
            .target(self.format.fill(|hole| attribute(hole).unwrap_or_default())))
    }

    /// The attributes that the template names, in order.
    pub fn attributes(&self) -> impl Iterator<Item = &str> {
        self.format.holes()
    }
}

/// As it is written in a policy.
impl fmt::Display for EventRoute {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{{ {}: {:?} }}", self.kind.field(), self.text)
    }
}

pub(super) fn checked(to: EventTargetDocument) -> Result<EventRoute, Vec<PolicyError>> {
    let mistake = |field: &str, message: String| PolicyError {
        path: format!("cloudevents.to{field}"),
        message,
    };
    let (kind, text) = match (to.room, to.user) {
        (Some(room), None) => (Kind::Room, room),
        (None, Some(user)) => (Kind::User, user),
        _ => {
            let message = "must be either `{ room: \"orders-{subject}\" }` or `{ user: \"{subject}\" }`";
            return Err(vec![mistake("", message.to_owned())]);
        }
    };
    let path = format!(".{}", kind.field());
    let format = Format::new(&text, &HOLES).map_err(|message| vec![mistake(&path, message)])?;
    // What is wrong with whatever attributes is wrong in the policy.
    match kind.target(format.fill(|_| "x")).rooms(1) {
        Ok(_) => Ok(EventRoute { kind, format, text }),
        Err(error) => Err(vec![mistake(&path, error.to_string())]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    fn route(to: &str) -> Result<EventRoute, String> {
        match Policy::parse_yaml(&format!("cloudevents: {{ to: {to} }}")) {
            Ok(policy) => Ok(policy.cloud_events().unwrap().clone()),
            Err(errors) => Err(errors.to_string()),
        }
    }

    #[test]
    fn attributes_are_filled_in() {
        let attribute = |name: &str| match name {
            "type" => Some("shipped"),
            "source" => Some("/shop"),
            _ => None,
        };
        let rooms = route("{ room: \"{type}@{source}\" }").unwrap();
        assert_eq!(
            rooms.target(attribute),
            Ok(Target::Room("shipped@/shop".to_owned()))
        );
        assert_eq!(rooms.to_string(), "{ room: \"{type}@{source}\" }");
        let users = route("{ user: \"{subject}\" }").unwrap();
        assert_eq!(users.target(attribute), Err("subject"));
        assert_eq!(users.target(|_| Some("42")), Ok(Target::User("42".to_owned())));
    }

    #[test]
    fn mistakes_have_a_path() {
        for (to, path, says) in [
            ("{}", "cloudevents.to: ", "must be either"),
            ("{ room: a, user: b }", "cloudevents.to: ", "must be either"),
            (
                "{ room: \"{id}\" }",
                "cloudevents.to.room: ",
                "known are {subject}, {source}, {type}",
            ),
            ("{ user: \"{subject\" }", "cloudevents.to.user: ", "never closed"),
            (
                "{ room: \"\\a{subject}\" }",
                "cloudevents.to.room: ",
                "control characters",
            ),
            ("{ room: \"\" }", "cloudevents.to.room: ", "must not be empty"),
        ] {
            let error = route(to).unwrap_err();
            assert!(error.starts_with(path) && error.contains(says), "{to}: {error}");
        }
        assert!(route("{ rooms: [a] }").unwrap_err().contains("rooms"));
        let all = Policy::parse_yaml("rooms: [{match: a, slow: never}]\ncloudevents: {to: {}}").unwrap_err();
        assert_eq!(all.0.len(), 2, "{all}");
    }
}
