//! Errors of object stores in our words: what the caller should do, and one sentence without secrets.
//!
//! S3 answers a wrong signature with a body that repeats the access key and the string that was signed; only its `Code` and
//! `Message` are passed on.

use std::error::Error as _;
use std::sync::Arc;

use object_store::Error as ObjectError;
use object_store::path::Path;

use crate::{Error, ErrorKind};

/// Longest reason that is quoted, in characters.
const REASON_CHARS_MAX: usize = 600;

pub(super) fn usage(message: impl Into<String>) -> Error {
    Error {
        kind: ErrorKind::Usage,
        message: message.into(),
        source: None,
    }
}

/// What a failed request means. `action` completes “cannot …”, e.g. `read`.
pub fn request_error(action: &str, location: &Path, error: ObjectError) -> Error {
    let kind = match &error {
        ObjectError::NotFound { .. } => ErrorKind::Missing,
        ObjectError::PermissionDenied { .. }
        | ObjectError::Unauthenticated { .. }
        | ObjectError::NotSupported { .. }
        | ObjectError::NotImplemented { .. }
        | ObjectError::InvalidPath { .. }
        | ObjectError::UnknownConfigurationKey { .. } => ErrorKind::Usage,
        _ => ErrorKind::Retry,
    };
    let (reason, telling) = reason(&error);
    let message = format!("cannot {action} `{location}`: {reason}");
    let source = if telling {
        None
    } else {
        Some(Arc::new(error) as _)
    };
    Error {
        kind,
        message,
        source,
    }
}

/// The error and its causes in one line, and whether something had to be left out (then the error itself must not be kept either).
fn reason(error: &ObjectError) -> (String, bool) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    let body = ["<?xml", "<Error>", "<html"]
        .iter()
        .filter_map(|start| text.find(start))
        .min();
    let telling = body.is_some();
    if let Some(start) = body {
        let code = element(&text[start..], "Code").map(str::to_owned);
        let message = element(&text[start..], "Message").map(str::to_owned);
        text.truncate(start);
        text.truncate(text.trim_end_matches([' ', ':']).len());
        for part in [code, message].into_iter().flatten() {
            text.push_str(": ");
            text.push_str(&part);
        }
    }
    if let Some((end, _)) = text.char_indices().nth(REASON_CHARS_MAX) {
        text.truncate(end);
        text.push('…');
    }
    (text.replace('\n', " "), telling)
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = xml.split_once(&format!("<{name}>"))?;
    Some(after.split_once(&format!("</{name}>"))?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_of_a_refusal_is_not_repeated() {
        let body = "Server returned 403: <?xml version=\"1.0\"?>\n<Error><Code>SignatureDoesNotMatch</Code><Message>no match</Message>\
                    <AWSAccessKeyId>AKIAKEY</AWSAccessKeyId></Error>";
        let error = ObjectError::PermissionDenied {
            path: "a/b".into(),
            source: body.into(),
        };
        let error = request_error("write", &Path::from("a/b"), error);
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(
            error
                .message
                .contains("403: SignatureDoesNotMatch: no match"),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("AKIAKEY"), "{error:?}");
    }

    #[test]
    fn kinds_say_what_to_do() {
        let generic = ObjectError::Generic {
            store: "S3",
            source: "x".repeat(5000).into(),
        };
        let error = request_error("read", &Path::from("a"), generic);
        assert_eq!(error.kind, ErrorKind::Retry);
        assert!(error.source.is_some() && error.message.chars().count() < 700);
        let missing = ObjectError::NotFound {
            path: "a".into(),
            source: "gone".into(),
        };
        assert_eq!(
            request_error("read", &Path::from("a"), missing).kind,
            ErrorKind::Missing
        );
    }
}
