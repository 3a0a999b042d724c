//! What the data of an event becomes, by its content type.

use bytes::Bytes;

use crate::{
    Data,
    publish::{MAX_DATA_DEPTH, PublishError, object::depth, source::Source},
};

/// A content type, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MediaType {
    /// `type/subtype` in lower case; empty if nothing was said.
    pub(super) essence: String,
    /// In lower case.
    charset: Option<String>,
}

/// Why bytes are not what their content type says.
#[derive(Debug)]
pub(super) enum Unfit {
    /// They are no JSON; the place is one in these bytes.
    Syntax(PublishError),
    /// Something else, in a sentence.
    Other(String),
}

impl MediaType {
    pub(super) fn new(text: &str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        let charset = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            let is_it = name.trim().eq_ignore_ascii_case("charset");
            is_it.then(|| value.trim().trim_matches('"').to_ascii_lowercase())
        });
        Self { essence, charset }
    }

    /// JSON by its name (spec.md, "data": a subtype `json`, or the suffix `+json`).
    fn is_json(&self) -> bool {
        self.essence
            .split_once('/')
            .is_some_and(|(_, subtype)| subtype == "json" || subtype.ends_with("+json"))
    }

    /// Text that can become a JSON string. In another charset than Unicode's it stays bytes.
    fn is_text(&self) -> bool {
        let unicode = self
            .charset
            .as_deref()
            .is_none_or(|charset| matches!(charset, "utf-8" | "utf8" | "us-ascii"));
        self.essence.starts_with("text/") && unicode
    }

    /// The data of a message. JSON that is not there at all is `null`.
    pub(super) fn data(&self, content: &Bytes) -> Result<Data, Unfit> {
        if self.is_json() {
            if content.is_empty() {
                return Ok(Data::NULL);
            }
            let source = Source::new(content).map_err(Unfit::Syntax)?;
            let root = source.root().map_err(Unfit::Syntax)?;
            if depth(root.get()) > MAX_DATA_DEPTH {
                let message = format!("arrays and objects are nested more than {MAX_DATA_DEPTH} levels deep");
                return Err(Unfit::Other(message));
            }
            return Ok(Data::Json(source.bytes(root)));
        }
        if !self.is_text() {
            return Ok(Data::Binary(content.clone()));
        }
        match std::str::from_utf8(content) {
            Ok(text) => Ok(Data::text(text)),
            Err(error) => Err(Unfit::Other(format!(
                "`{}` without another charset is UTF-8, and this is not, from byte {} on; name its charset, or send it \
                 as `application/octet-stream`",
                self.essence,
                error.valid_up_to()
            ))),
        }
    }
}
