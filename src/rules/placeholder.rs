//! Placeholders in the agent's arguments: `{staging}` and `{inputs}`, anywhere in an argument, more than once.

use crate::model::text::Text;

/// Replaces every placeholder of `values` in `argument`; other braces stay as they are.
pub fn expand(argument: &Text, values: &[(&str, &[u8])]) -> Text {
    let mut expanded = Vec::with_capacity(argument.0.len());
    let mut rest = &argument.0[..];
    'argument: while let Some(first) = rest.first() {
        for (name, value) in values {
            if let Some(after) = rest.strip_prefix(name.as_bytes()) {
                expanded.extend_from_slice(value);
                rest = after;
                continue 'argument;
            }
        }
        expanded.push(*first);
        rest = &rest[1..];
    }
    Text(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_expand_everywhere_and_nothing_else_changes() {
        let values: [(&str, &[u8]); 2] = [("{staging}", b"/s"), ("{inputs}", b"/i\xff")];
        let expand = |text: &[u8]| expand(&Text(text.to_vec()), &values).0;
        assert_eq!(expand(b"--o={staging}/x:{staging}"), b"--o=/s/x:/s");
        assert_eq!(expand(b"{inputs}"), b"/i\xff");
        assert_eq!(expand(b"{other} {stag {} \xff"), b"{other} {stag {} \xff");
    }
}
