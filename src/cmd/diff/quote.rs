//! Names as git prints them: as they are where nothing in them could be misread, else in double quotes with the escapes
//! of C (`core.quotePath`, git-config(1)).

/// The bytes as git prints a name.
pub(super) fn quoted(name: &[u8]) -> Vec<u8> {
    prefixed(b"", name)
}

/// The same with something before the name (`a/`), inside the quotes where there are any.
pub(super) fn prefixed(prefix: &[u8], name: &[u8]) -> Vec<u8> {
    let whole = [prefix, name].concat();
    if whole.iter().all(|byte| is_plain(*byte)) {
        return whole;
    }
    let mut out = Vec::with_capacity(whole.len() + 8);
    out.push(b'"');
    for byte in whole {
        push_escaped(&mut out, byte);
    }
    out.push(b'"');
    out
}

fn is_plain(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\'
}

fn push_escaped(out: &mut Vec<u8>, byte: u8) {
    let letter = match byte {
        0x07 => b'a',
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0b => b'v',
        0x0c => b'f',
        b'\r' => b'r',
        b'"' | b'\\' => byte,
        _ if is_plain(byte) => return out.push(byte),
        _ => return out.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
    };
    out.extend_from_slice(&[b'\\', letter]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_only_where_it_could_be_misread() {
        assert_eq!(prefixed(b"a/", b"two words.txt"), b"a/two words.txt");
        assert_eq!(prefixed(b"b/", b"say \"hi\"\\"), br#""b/say \"hi\"\\""#);
        assert_eq!(quoted(b"a\n\t\x07\x08\x0b\x0c\r\x01\x7f"), br#""a\n\t\a\b\v\f\r\001\177""#);
        assert_eq!(quoted("é".as_bytes()), br#""\303\251""#);
    }
}
