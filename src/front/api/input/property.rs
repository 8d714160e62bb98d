//! What the contract says of one member of a body, or of one query parameter.

use schemars::{Schema, json_schema};
use serde_json::{Map, Value};

/// A member or a query parameter, as the contract has it.
pub(in crate::front) struct Property {
    pub(in crate::front) name: &'static str,
    pub(in crate::front) about: &'static str,
    pub(in crate::front) required: bool,
    pub(in crate::front) schema: Schema,
}

impl Property {
    /// The schema of an object that has these properties and no other.
    pub(in crate::front::api) fn object<const N: usize>(about: &str, properties: [Property; N]) -> Schema {
        let required: Vec<&str> = properties.iter().filter(|one| one.required).map(|one| one.name).collect();
        let mut schema = json_schema!({
            "description": about.trim(),
            "type": "object",
            "additionalProperties": false,
            "properties": properties.into_iter().map(Property::described).collect::<Map<_, _>>(),
        });
        if !required.is_empty() {
            schema.insert("required".to_owned(), required.into());
        }
        schema
    }

    fn described(mut self) -> (String, Value) {
        self.schema.insert("description".to_owned(), self.about.trim().into());
        (self.name.to_owned(), self.schema.into())
    }
}
