//! Where the values of options come from, noted as they are taken: for `run --explain`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;

use super::config::{Origin, variable};

/// What was taken for each option, and from where. Options that nobody has set are missing.
#[derive(Debug, Default)]
pub struct Origins(RefCell<BTreeMap<String, Taken>>);

/// What was taken for one option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// As typed.
    pub values: Vec<OsString>,
    /// From where.
    pub origin: Origin,
}

impl Origins {
    /// Notes the values of an option, and gives them back.
    pub fn note(&self, key: &str, values: Vec<OsString>, origin: &Origin) -> Vec<OsString> {
        let taken = Taken { values: values.clone(), origin: origin.clone() };
        self.0.borrow_mut().insert(key.to_owned(), taken);
        values
    }

    /// What was taken for an option; `None`: nobody has set it.
    pub fn of(&self, key: &str) -> Option<Taken> {
        self.0.borrow().get(key).cloned()
    }
}

/// An origin, for a person who wants to change the value.
pub fn describe(origin: &Origin, key: &str) -> String {
    match origin {
        Origin::Flag => "flag".to_owned(),
        Origin::Environment => format!("environment {}", variable(key)),
        Origin::File(path, table) => format!("{} [{table}]", path.display()),
    }
}
