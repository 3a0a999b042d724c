//! Engine.IO ids that name their gateway: `<gateway>.<sid>`.

use http::Uri;

use super::seal::unsealed;

/// A gateway's name as it stands in ids: what would need escaping in a query or in JSON is an underscore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GatewayName(String);

impl GatewayName {
    /// The name of the gateway in this pod.
    pub(crate) fn of_pod(pod: &str) -> Self {
        let safe = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.');
        Self(
            pod.chars()
                .map(|character| if safe(character) { character } else { '_' })
                .collect(),
        )
    }

    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// An id of a session here, as clients are told it.
    pub(crate) fn name(&self, id: &str) -> String {
        format!("{}.{id}", self.0)
    }

    /// Puts the name before the id in the packet that opens a session, and a seal behind it: `0{"sid":"…"…}`, with its
    /// length before it in Engine.IO 3. `None` if it is no such packet.
    pub(crate) fn name_open_packet(
        &self,
        payload: &str,
        seal: impl FnOnce(&str) -> String,
    ) -> Option<String> {
        const ID: &str = "\"sid\":\"";
        let (length, packet) = match payload.split_once(':') {
            Some((length, packet)) if length.bytes().all(|byte| byte.is_ascii_digit()) => (true, packet),
            _ => (false, payload),
        };
        let (before, after) = packet.split_once(ID)?;
        (before == "0{").then_some(())?;
        let (id, after) = after.split_once('"')?;
        let named = format!("{before}{ID}{}.{id}{}\"{after}", self.0, seal(id));
        Some(match length {
            true => format!("{}:{named}", named.chars().count()),
            false => named,
        })
    }
}

/// A session as a request's query names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NamedId<'a> {
    /// Whose it is.
    pub(crate) gateway: &'a str,
    /// Its id there, with the seal.
    pub(crate) id: &'a str,
}

impl<'a> NamedId<'a> {
    /// Reads `<gateway>.<sid>`; ids themselves have no dots.
    pub(crate) fn read(sid: &'a str) -> Option<Self> {
        let (gateway, id) = sid.rsplit_once('.')?;
        Some(Self { gateway, id })
    }

    /// Its id there, and the seal.
    pub(crate) fn unsealed(self) -> (&'a str, Option<&'a str>) {
        unsealed(self.id)
    }
}

/// The address of a request with the id as Engine.IO knows it.
pub(crate) fn with_id(uri: &Uri, id: &str) -> Option<Uri> {
    let query: Vec<String> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some(("sid", _)) => format!("sid={id}"),
            _ => pair.to_owned(),
        })
        .collect();
    format!("{}?{}", uri.path(), query.join("&")).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_packet_is_named_in_both_versions() {
        let name = GatewayName::of_pod("gateway-7f");
        let four = r#"0{"sid":"AbC","upgrades":["websocket"],"pingInterval":25000}"#;
        let named = r#"0{"sid":"gateway-7f.AbC-seal","upgrades":["websocket"],"pingInterval":25000}"#;
        let seal = |id: &str| {
            assert_eq!(id, "AbC");
            "-seal".to_owned()
        };
        assert_eq!(name.name_open_packet(four, seal).unwrap(), named);
        let three = format!("{}:{four}", four.len());
        assert_eq!(
            name.name_open_packet(&three, seal).unwrap(),
            format!("{}:{named}", named.len())
        );
        assert_eq!(name.name_open_packet(r#"4{"sid":"AbC"}"#, seal), None);
    }

    #[test]
    fn ids_are_taken_apart_at_the_last_dot() {
        let named = GatewayName::of_pod("a.b/c d").name("X_-9");
        assert_eq!(named, "a.b_c_d.X_-9");
        let read = NamedId::read(&named).unwrap();
        assert_eq!((read.gateway, read.id), ("a.b_c_d", "X_-9"));
        assert_eq!(NamedId::read("X_-9"), None);
    }

    #[test]
    fn only_the_id_of_a_query_changes() {
        let uri = "/socket.io/?EIO=4&transport=polling&t=1&sid=g.X".parse().unwrap();
        let inner = with_id(&uri, "X").unwrap();
        assert_eq!(inner, "/socket.io/?EIO=4&transport=polling&t=1&sid=X");
    }
}
