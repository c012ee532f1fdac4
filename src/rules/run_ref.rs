//! `RunRef`: how a person names a run on the command line. The text is judged here, before any path is made of
//! it: what is not one of these forms names nothing.
//!
//! ```text
//! @              the newest run          @failed   the newest failed one
//! @-1            the one before it       <id>      a run id
//! <hex digits>   a unique prefix or suffix of an id, four digits or more, hyphens as printed or left out
//! ```

use std::fmt;
use std::str::FromStr;

use crate::model::{RunId, Status};

/// Fewer digits than this name a run only by accident.
pub const MIN_DIGITS: usize = 4;

/// Hex digits in a run id.
const ID_DIGITS: usize = 32;

/// A way to name one run of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunRef {
    /// The run that many before the newest; `@` is 0.
    Back(usize),
    /// The newest run of which [`is_failure`] holds.
    NewestFailed,
    /// Exactly this run.
    Id(RunId),
    /// The run whose id begins or ends so.
    Part(IdPart),
}

/// The beginning or the end of a run id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPart {
    as_prefix: String,
    as_suffix: String,
}

/// The text is none of the forms of a run reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseRunRefError {
    /// Not of any form.
    #[error("{0:?} is no run: give an id, its beginning or end, @, @-1 or @failed")]
    Grammar(String),
    /// Hexadecimal, and too short to mean one run.
    #[error("{0:?} is too short for a run: give {MIN_DIGITS} digits or more of its id")]
    TooShort(String),
}

/// Whether a run of this status is one that `@failed` finds: everything that did not reach its end by its own or
/// its owner's will. A cancelled run was stopped on purpose, and a held one waits for a decision.
pub fn is_failure(status: Status) -> bool {
    match status {
        Status::Failed | Status::Rejected | Status::Blocked | Status::Interrupted => true,
        Status::Succeeded | Status::Cancelled | Status::Held => false,
    }
}

impl FromStr for RunRef {
    type Err = ParseRunRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix('@') {
            Some("") => Ok(Self::Back(0)),
            Some("failed") => Ok(Self::NewestFailed),
            Some(count) => steps_back(count).map(Self::Back).ok_or_else(|| grammar(text)),
            None => by_digits(text),
        }
    }
}

fn grammar(text: &str) -> ParseRunRefError {
    ParseRunRefError::Grammar(text.to_owned())
}

fn steps_back(text: &str) -> Option<usize> {
    let digits = text.strip_prefix('-')?;
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn by_digits(text: &str) -> Result<RunRef, ParseRunRefError> {
    let lower = text.to_ascii_lowercase();
    let digits: String = lower.chars().filter(|letter| *letter != '-').collect();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) || digits.len() > ID_DIGITS {
        return Err(grammar(text));
    }
    let part = IdPart { as_prefix: hyphenated(&digits, 0), as_suffix: hyphenated(&digits, ID_DIGITS - digits.len()) };
    if lower.contains('-') && lower != part.as_prefix && lower != part.as_suffix {
        return Err(grammar(text));
    }
    if digits.len() == ID_DIGITS {
        return part.as_prefix.parse().map(RunRef::Id).map_err(|_| grammar(text));
    }
    if digits.len() < MIN_DIGITS {
        return Err(ParseRunRefError::TooShort(text.to_owned()));
    }
    Ok(RunRef::Part(part))
}

/// The digits as an id prints them if the first is digit number `first` of 32.
fn hyphenated(digits: &str, first: usize) -> String {
    let mut printed = String::with_capacity(digits.len() + 4);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && matches!(first + at, 8 | 12 | 16 | 20) {
            printed.push('-');
        }
        printed.push(digit);
    }
    printed
}

impl IdPart {
    /// Whether an id, as printed, begins or ends with this part.
    pub fn names(&self, id: &[u8]) -> bool {
        id.starts_with(self.as_prefix.as_bytes()) || id.ends_with(self.as_suffix.as_bytes())
    }
}

impl fmt::Display for IdPart {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.as_prefix)
    }
}

impl fmt::Display for RunRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Back(0) => out.write_str("@"),
            Self::Back(steps) => write!(out, "@-{steps}"),
            Self::NewestFailed => out.write_str("@failed"),
            Self::Id(id) => id.fmt(out),
            Self::Part(part) => part.fmt(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "019ab3c4-5d6e-7f80-9123-456789abcdef";

    fn names(text: &str) -> bool {
        match text.parse() {
            Ok(RunRef::Part(part)) => part.names(ID.as_bytes()),
            Ok(RunRef::Id(id)) => id.to_string() == ID,
            _ => false,
        }
    }

    #[test]
    fn each_form_parses_to_its_meaning() {
        assert_eq!("@".parse(), Ok(RunRef::Back(0)));
        assert_eq!("@-12".parse(), Ok(RunRef::Back(12)));
        assert_eq!("@failed".parse(), Ok(RunRef::NewestFailed));
        assert_eq!(ID.parse(), Ok(RunRef::Id(ID.parse().expect("an id"))));
        assert_eq!(ID.to_uppercase().parse(), Ok(RunRef::Id(ID.parse().expect("an id"))));
    }

    #[test]
    fn what_is_no_reference_is_refused_before_any_path_is_made_of_it() {
        for text in
            ["", "../x", "../../etc", "/etc", "@x", "@-", "@+1", "@-1x", "@--1", "run", "019ab3c4/..", "a b", "-"]
        {
            assert_eq!(text.parse::<RunRef>(), Err(ParseRunRefError::Grammar(text.into())), "{text:?}");
        }
        assert_eq!("abc".parse::<RunRef>(), Err(ParseRunRefError::TooShort("abc".into())));
        assert!("6fa459ea-ee8a-4ca4-894e-db77e160355e".parse::<RunRef>().is_err(), "a UUIDv4 is no run id");
        assert!("0-1-9-a".parse::<RunRef>().is_err(), "hyphens stand where they are printed or nowhere");
        assert!("@-99999999999999999999".parse::<RunRef>().is_err());
    }

    proptest! {
        #[test]
        fn every_beginning_and_every_end_of_an_id_names_it_with_and_without_hyphens(digits in MIN_DIGITS..=ID_DIGITS) {
            let bare = ID.replace('-', "");
            prop_assert!(names(&bare[..digits]));
            prop_assert!(names(&bare[ID_DIGITS - digits..]));
            prop_assert!(names(&hyphenated(&bare[..digits], 0)));
            prop_assert!(names(&hyphenated(&bare[ID_DIGITS - digits..], ID_DIGITS - digits)));
        }

        #[test]
        fn no_text_panics_and_what_parses_holds_no_path(text in "\\PC{0,40}") {
            if let Ok(reference) = text.parse::<RunRef>() {
                let printed = reference.to_string();
                prop_assert!(!printed.contains('/') && !printed.contains('.'));
                prop_assert_eq!(printed.parse::<RunRef>(), Ok(reference));
            }
        }
    }
}
