//! Fields of JSON that nobody promised: what is missing or of another kind is simply not there.

use memchr::memmem;
use serde_json::Value;

/// The value at a path of keys.
pub(super) fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

/// A count: a whole number that is not negative.
pub(super) fn count(value: &Value, path: &[&str]) -> Option<u64> {
    let number = at(value, path)?;
    number.as_u64().or_else(|| {
        // 2^53: beyond it such a number is none any more.
        let float =
            number.as_f64().filter(|float| float.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(float));
        float.map(|float| float as u64)
    })
}

/// An amount of money: finite and not negative.
pub(super) fn dollars(value: &Value, path: &[&str]) -> Option<f64> {
    at(value, path)?.as_f64().filter(|amount| amount.is_finite() && *amount >= 0.0)
}

/// A string.
pub(super) fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    at(value, path)?.as_str()
}

/// An HTTP status.
pub(super) fn status(value: &Value, path: &[&str]) -> Option<u16> {
    count(value, path).and_then(|status| u16::try_from(status).ok()).filter(|status| (100..600).contains(status))
}

/// The objects below a path, by key.
pub(super) fn members<'a>(value: &'a Value, path: &[&str]) -> impl Iterator<Item = (&'a String, &'a Value)> {
    at(value, path).and_then(Value::as_object).into_iter().flatten()
}

/// The value of the first `"type"` of a line, without parsing it: most lines are of no interest.
pub(super) fn kind_of(line: &[u8]) -> Option<&str> {
    const LOOKED_AT: usize = 256;
    // Nearly all agents write it first, and without spaces.
    if let Some(rest) = line.strip_prefix(b"{\"type\":\"") {
        let end = memchr::memchr(b'"', &rest[..rest.len().min(LOOKED_AT)])?;
        return std::str::from_utf8(&rest[..end]).ok();
    }
    let head = &line[..line.len().min(LOOKED_AT)];
    let after = memmem::find(head, b"\"type\"")? + b"\"type\"".len();
    let rest = head[after..].trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', rest)?;
    std::str::from_utf8(&rest[..end]).ok()
}

/// The whole line, if it is JSON.
pub(super) fn parse(line: &[u8]) -> Option<Value> {
    serde_json::from_slice(line).ok()
}
