//! What is wrong with a request's content: a list with a bound.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};

/// The most entries of a list. A client that got this many wrong reads the documentation, and a list without
/// a bound would be larger than the request that it answers.
const ENTRIES_MAX: usize = 20;

/// The most bytes of a pointer: a client's own name may be as long as its request. The longest name of the API
/// is far shorter.
const POINTER_BYTES_MAX: usize = 100;

/// The broken rules of a request: the first [`ENTRIES_MAX`], and the number of others.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FieldErrors {
    first: Vec<FieldError>,
    more: u64,
}

/// One thing that is wrong with a request's content.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct FieldError {
    /// JSON pointer (RFC 6901) into the body, empty for the whole body; `?name` for a query parameter; `Name:`
    /// for a header. One of more than 100 bytes is cut, and ends with `…`.
    pointer: String,
    /// What it has to be.
    detail: String,
}

impl FieldErrors {
    /// A list of one entry.
    pub fn of(pointer: impl Into<String>, detail: impl Into<String>) -> FieldErrors {
        let mut errors = FieldErrors::default();
        errors.add(|| pointer.into(), detail);
        errors
    }

    /// Adds an entry, or counts it if the list is full. `pointer` is called only in the first case.
    pub fn add(&mut self, pointer: impl FnOnce() -> String, detail: impl Into<String>) {
        if self.first.len() < ENTRIES_MAX {
            self.first.push(FieldError { pointer: shortened(pointer()), detail: detail.into() });
        } else {
            self.more += 1;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The number of broken rules without an entry.
    pub(super) fn more(&self) -> u64 {
        self.more
    }

    /// A sentence about the whole list.
    pub(super) fn summary(&self) -> String {
        match &*self.first {
            [only] if only.pointer.is_empty() => format!("The body {}.", only.detail),
            [only] => {
                let is_header = !only.pointer.starts_with(['/', '?']);
                let colon = if is_header { "" } else { ":" };
                format!("{}{colon} {}", only.pointer, only.detail)
            }
            several if self.more == 0 => {
                format!("{} rules are broken: 'errors' names each.", several.len())
            }
            several => {
                let all = several.len() as u64 + self.more;
                format!("{all} rules are broken: 'errors' names the first {}.", several.len())
            }
        }
    }
}

/// What is wrong with a name that is none of `known`.
pub fn unknown(known: &[&str]) -> String {
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    format!("is not known here (known: {known})")
}

fn shortened(mut pointer: String) -> String {
    if pointer.len() > POINTER_BYTES_MAX {
        pointer.truncate(pointer.floor_char_boundary(POINTER_BYTES_MAX));
        pointer.push('…');
    }
    pointer
}

impl Serialize for FieldErrors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.first.serialize(serializer)
    }
}

impl JsonSchema for FieldErrors {
    fn schema_name() -> Cow<'static, str> {
        "FieldErrors".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Vec::<FieldError>::json_schema(generator);
        schema.insert("minItems".to_owned(), 1.into());
        schema.insert("maxItems".to_owned(), ENTRIES_MAX.into());
        schema
    }
}
