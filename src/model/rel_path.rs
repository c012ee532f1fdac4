//! `RelPath`: a path below some root, validated as a list of components when it is made.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::text::Text;

/// A relative path of plain components: never empty, absolute, `.`/`..`, doubled slashes or NUL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub struct RelPath(Vec<u8>);

/// The bytes were not a list of plain components.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a path below its root: {0:?}")]
pub struct RelPathError(pub Text);

impl RelPath {
    /// Checks every component; anything that could leave the root is refused.
    pub fn new(bytes: Vec<u8>) -> Result<Self, RelPathError> {
        let plain = |part: &[u8]| !part.is_empty() && part != b"." && part != b".." && !part.contains(&0);
        if bytes.split(|byte| *byte == b'/').all(plain) { Ok(Self(bytes)) } else { Err(RelPathError(Text(bytes))) }
    }

    /// The bytes, components separated by single slashes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same as a path.
    pub fn as_path(&self) -> &Path {
        use std::os::unix::ffi::OsStrExt as _;
        Path::new(std::ffi::OsStr::from_bytes(&self.0))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_path(), out)
    }
}

impl TryFrom<Text> for RelPath {
    type Error = RelPathError;

    fn try_from(text: Text) -> Result<Self, Self::Error> {
        Self::new(text.0)
    }
}

impl From<RelPath> for Text {
    fn from(path: RelPath) -> Self {
        Self(path.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_leaves_the_root_is_a_relative_path() {
        for bad in [&b""[..], b"/", b"/etc", b"a/../b", b"..", b"a//b", b"./a", b"a/", b"a\0b"] {
            assert!(RelPath::new(bad.to_vec()).is_err(), "{bad:?}");
        }
        for good in [&b"a"[..], b"a/b", b"-rf", b"\xff\n", b"..."] {
            assert!(RelPath::new(good.to_vec()).is_ok(), "{good:?}");
        }
    }
}
