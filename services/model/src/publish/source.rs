//! The body, and where in it things are.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{PublishError, PublishErrorKind};

/// A body that is text. Values of it are slices, so their place can be told.
pub(super) struct Source<'a> {
    body: &'a Bytes,
    text: &'a str,
}

impl<'a> Source<'a> {
    pub(super) fn new(body: &'a Bytes) -> Result<Self, PublishError> {
        match std::str::from_utf8(body) {
            Ok(text) => Ok(Self { body, text }),
            Err(error) => {
                let (line, column) = place(body, error.valid_up_to());
                Err(PublishError {
                    kind: PublishErrorKind::Syntax,
                    field: String::new(),
                    line,
                    column,
                    message: "the body is not UTF-8".to_owned(),
                })
            }
        }
    }

    /// Checks that the whole body is one JSON value. This does not recurse, so its depth needs no bound here.
    pub(super) fn root(&self) -> Result<&'a RawValue, PublishError> {
        serde_json::from_str(self.text).map_err(|error| {
            let message = if self.text.trim().is_empty() {
                "the body is empty; send a message as a JSON object, or an array of them".to_owned()
            } else {
                format!("the body is not JSON: {}", without_place(&error))
            };
            PublishError {
                kind: PublishErrorKind::Syntax,
                field: String::new(),
                line: error.line().max(1),
                column: error.column().max(1),
                message,
            }
        })
    }

    /// The bytes of a value, shared with the body.
    pub(super) fn bytes(&self, value: &'a RawValue) -> Bytes {
        self.body.slice_ref(value.get().as_bytes())
    }

    /// A mistake at a value of this body.
    pub(super) fn error(
        &self,
        kind: PublishErrorKind,
        value: &'a RawValue,
        field: String,
        message: String,
    ) -> PublishError {
        let start = (value.get().as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let (line, column) = place(self.body, start.min(self.body.len()));
        PublishError {
            kind,
            field,
            line,
            column,
            message,
        }
    }
}

/// Line and column, from 1, of a byte.
fn place(text: &[u8], at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1);
    (line, at - start + 1)
}

/// What serde_json says, without its place: that is told apart, and counts from the start of what was parsed.
pub(super) fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}
