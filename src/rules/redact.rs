//! Redaction of argument vectors for the log, and of whatever leaves in a bundle: known key shapes anywhere in a text, URL
//! userinfo, private keys, and the values of options and variables whose names say that they are secret.
//!
//! A safety net, not a vault: the exact arguments stay in the run directory, which only the user can read. The time is
//! linear in the text, whatever stands in it: agents print it.

use crate::model::text::Text;

/// What stands in place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Prefixes of well-known tokens, and the fewest characters that must follow.
const TOKEN_PREFIXES: [(&[u8], usize); 25] = [
    (b"sk-", 16),
    (b"sk_live_", 10),
    (b"sk_test_", 10),
    (b"ghp_", 16),
    (b"gho_", 16),
    (b"ghu_", 16),
    (b"ghs_", 16),
    (b"ghr_", 16),
    (b"github_pat_", 16),
    (b"glpat-", 16),
    (b"xoxb-", 10),
    (b"xoxp-", 10),
    (b"AKIA", 16),
    (b"ASIA", 16),
    (b"AIza", 30),
    (b"hf_", 20),
    (b"xoxa-", 10),
    (b"xoxr-", 10),
    (b"xapp-", 10),
    (b"npm_", 20),
    (b"pypi-", 20),
    (b"gsk_", 20),
    (b"xai-", 20),
    (b"ya29.", 20),
    (b"AGE-SECRET-KEY-", 20),
];

/// How a private key in PEM begins and ends; what kind it is stands between.
const PEM: (&[u8], &[u8], &[u8]) = (b"-----BEGIN ", b"PRIVATE KEY-----", b"-----END ");

/// Words that make the value of an option or variable secret.
const SECRET_NAMES: [&str; 5] = ["key", "token", "secret", "password", "passwd"];

/// The argument vector with its secrets replaced.
pub fn redact_command(command: &[Text]) -> Vec<Text> {
    let mut redacted = Vec::with_capacity(command.len());
    let mut secret_follows = false;
    for (at, argument) in command.iter().enumerate() {
        let value_of_secret = std::mem::take(&mut secret_follows) && !argument.0.starts_with(b"--");
        if value_of_secret && !is_count(&command[at - 1].0, &argument.0) {
            redacted.push(Text::from(REDACTED));
            continue;
        }
        secret_follows = at > 0 && is_option(argument) && !argument.0.contains(&b'=') && is_secret_name(&argument.0);
        redacted.push(redact_text(argument));
    }
    redacted
}

/// One text (an argument, a shell command) with its secrets replaced.
pub fn redact_text(text: &Text) -> Text {
    Text(redact_bytes(&text.0, &mut Vec::new()))
}

/// A text of any length with its secrets replaced; what was replaced is added to `found`.
pub fn redact_bytes(bytes: &[u8], found: &mut Vec<Vec<u8>>) -> Vec<u8> {
    let without_keys = redact_pem(bytes);
    let named = redact_assignments(&without_keys, found);
    let unowned = redact_userinfo(&named, found);
    redact_tokens(&unowned, found)
}

/// The secrets of an argument vector: what [`redact_command`] replaces.
pub fn secrets_in(command: &[Text]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for (at, (before, after)) in command.iter().zip(redact_command(command)).enumerate() {
        if after.0 == REDACTED.as_bytes() && at > 0 {
            found.push(before.0.clone());
        } else {
            let _ = redact_bytes(&before.0, &mut found);
        }
    }
    found
}

fn is_option(argument: &Text) -> bool {
    argument.0.starts_with(b"-")
}

/// Whether a word of the name (split at anything but letters and digits) ends like one of the secret words, so that
/// `--api-key` and `OPENAI_API_KEYS` count and `--keyboard` does not.
pub fn is_secret_name(name: &[u8]) -> bool {
    name.split(|byte| !byte.is_ascii_alphanumeric()).any(|word| {
        let word = String::from_utf8_lossy(word).to_ascii_lowercase();
        let word = word.strip_suffix('s').unwrap_or(&word);
        SECRET_NAMES.iter().any(|secret| word.ends_with(secret))
    })
}

/// A short number under a name of tokens is a setting (`--max-tokens 4096`), not a secret.
fn is_count(name: &[u8], value: &[u8]) -> bool {
    let counts = name.to_ascii_lowercase().windows(5).any(|word| word == b"token");
    // In JSON brackets stand behind it.
    let end = value.iter().rposition(|byte| !matches!(byte, b'}' | b']')).map_or(0, |last| last + 1);
    let (number, brackets) = value.split_at(end);
    counts && !number.is_empty() && number.len() < 10 && number.iter().all(u8::is_ascii_digit) && brackets.len() < 10
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn is_value_byte(byte: u8) -> bool {
    !byte.is_ascii_whitespace() && !matches!(byte, b'"' | b'\'' | b'&' | b';' | b',' | b')')
}

/// Private keys in PEM, whole.
fn redact_pem(bytes: &[u8]) -> Vec<u8> {
    let (begin, kind, end) = PEM;
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = find(rest, begin) {
        let line = &rest[at + begin.len()..];
        let head = &line[..line.len().min(64)];
        let Some(body) = find(head, kind).map(|kind_at| &line[kind_at + kind.len()..]) else {
            out.extend_from_slice(&rest[..at + begin.len()]);
            rest = line;
            continue;
        };
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(REDACTED.as_bytes());
        // One that is cut off has no end.
        let ended = find(body, end).map_or(&[][..], |end_at| &body[end_at + end.len()..]);
        let tail = &ended[..ended.len().min(64)];
        rest = find(tail, kind).map_or(ended, |kind_at| &ended[kind_at + kind.len()..]);
    }
    out.extend_from_slice(rest);
    out
}

/// `NAME=value` and `--name=value`, wherever they stand, where the name is a secret one.
fn redact_assignments(bytes: &[u8], found: &mut Vec<Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if let Some((kept, secret)) = assigned_at(bytes, at, &out) {
            out.extend_from_slice(&bytes[at..at + kept]);
            out.extend_from_slice(REDACTED.as_bytes());
            found.push(bytes[at + kept..at + kept + secret].to_vec());
            at += kept + secret;
            continue;
        }
        out.push(bytes[at]);
        at += 1;
    }
    out
}

/// Lengths of what is kept and of the secret that follows it, if a value is assigned here to a secret name; `out` ends
/// with the name.
fn assigned_at(bytes: &[u8], at: usize, out: &[u8]) -> Option<(usize, usize)> {
    if !matches!(bytes[at], b'=' | b':') {
        return None;
    }
    // In JSON the name ends with its quote: `"api_key": "…"`.
    let name_end = out.len() - usize::from(out.last().is_some_and(|byte| matches!(byte, b'"' | b'\'')));
    let name_start = out[..name_end].iter().rposition(|byte| !is_name_byte(*byte)).map_or(0, |last| last + 1);
    let name = &out[name_start..name_end];
    // A header has a space after its colon: `X-Api-Key: …`.
    let space = usize::from(bytes[at] == b':' && bytes.get(at + 1) == Some(&b' '));
    let value = &bytes[at + 1 + space..];
    // Before the value is measured: where nothing is replaced, nothing long may have been looked at.
    if value.is_empty() || value.starts_with(b"//") || !is_secret_name(name) {
        return None;
    }
    let quote = value.first().copied().filter(|byte| matches!(byte, b'"' | b'\''));
    let skip = usize::from(quote.is_some());
    let length = match quote {
        Some(quote) => value[1..].iter().position(|byte| *byte == quote).unwrap_or(value.len() - 1),
        None => value.iter().position(|byte| !is_value_byte(*byte)).unwrap_or(value.len()),
    };
    let secret = &value[skip..skip + length];
    let plain = secret.is_empty() || secret.starts_with(b"//") || is_count(name, secret);
    (!plain).then_some((1 + space + skip, length))
}

/// `scheme://user:pass@host` loses its userinfo.
fn redact_userinfo(bytes: &[u8], found: &mut Vec<Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = find(rest, b"://") {
        let (before, after) = rest.split_at(at + 3);
        out.extend_from_slice(before);
        let end = after.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#') || !is_value_byte(*byte));
        let authority = &after[..end.unwrap_or(after.len())];
        if let Some(sign) = authority.iter().rposition(|byte| *byte == b'@') {
            out.extend_from_slice(REDACTED.as_bytes());
            let user = authority[..sign].iter().position(|byte| *byte == b':');
            found.extend(user.map(|colon| authority[colon + 1..sign].to_vec()));
            rest = &after[sign..];
        } else {
            rest = after;
        }
    }
    out.extend_from_slice(rest);
    out
}

/// Known token shapes, JWTs, and whatever follows `Bearer `.
fn redact_tokens(bytes: &[u8], found: &mut Vec<Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    // Within one run of name bytes there is no JWT further on if there is none here.
    let mut no_jwt_before = 0;
    while at < bytes.len() {
        let at_start = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
        let skipped = at < no_jwt_before && bytes[at..].starts_with(JWT);
        if let Some((kept, secret)) = (at_start && !skipped).then(|| token_at(&bytes[at..])).flatten() {
            out.extend_from_slice(&bytes[at..at + kept]);
            out.extend_from_slice(REDACTED.as_bytes());
            found.push(bytes[at + kept..at + kept + secret].to_vec());
            at += kept + secret;
        } else {
            if at_start && !skipped && bytes[at..].starts_with(JWT) {
                no_jwt_before = at + name_run(&bytes[at..]);
            }
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}

/// How a JSON Web Token begins.
const JWT: &[u8] = b"eyJ";

fn name_run(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| is_name_byte(**byte)).count()
}

/// Lengths of what is kept and of the secret that follows it, if a token starts here.
fn token_at(bytes: &[u8]) -> Option<(usize, usize)> {
    for scheme in [&b"bearer "[..], b"basic "] {
        let kept = scheme.len();
        if bytes.len() > kept && bytes[..kept].eq_ignore_ascii_case(scheme) {
            let length = bytes[kept..].iter().take_while(|byte| is_value_byte(**byte)).count();
            // "basic auth" is prose; credentials are longer.
            let secret = length >= 8 && !bytes[kept..].starts_with(REDACTED.as_bytes());
            return secret.then_some((kept, length));
        }
    }
    if bytes.starts_with(JWT) {
        let length = name_run(bytes);
        let dots = bytes[..length].iter().filter(|byte| **byte == b'.').count();
        return (dots >= 2 && length > 20).then_some((0, length));
    }
    let (prefix, fewest) = TOKEN_PREFIXES.iter().find(|(prefix, _)| bytes.starts_with(prefix))?;
    let length = name_run(&bytes[prefix.len()..]);
    (length >= *fewest).then_some((0, prefix.len() + length))
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(command: &[&str]) -> String {
        let command: Vec<Text> = command.iter().map(|argument| Text::from(*argument)).collect();
        let parts: Vec<String> =
            redact_command(&command).iter().map(|part| part.to_string_lossy().into_owned()).collect();
        parts.join(" ")
    }

    #[test]
    fn secrets_leave_the_command_in_every_form() {
        const TOKEN: &str = "hunter2hunter2hunter2hunter2hunter2";
        for command in [
            vec!["agent", "--api-key", TOKEN],
            vec!["agent", "--api-key=hunter2hunter2hunter2hunter2hunter2"],
            vec!["env", "OPENAI_API_KEY=hunter2hunter2hunter2hunter2hunter2", "agent"],
            vec!["sh", "-c", "curl -H 'Authorization: Bearer hunter2hunter2hunter2hunter2hunter2' x"],
            vec!["curl", "https://me:hunter2hunter2hunter2hunter2hunter2@host/x"],
            vec!["sh", "-c", "DB_PASSWORD='hunter2hunter2hunter2hunter2hunter2' x"],
            vec!["a", "sk-hunter2hunter2hunter2hunter2hunter2"],
            vec!["a", "x,ghp_hunter2hunter2hunter2hunter2hunter2"],
            vec!["a", "eyJhunter2hunter2.hunter2hunter2.hunter2"],
            vec!["a", "--password", "12345678hunter2"],
            vec!["a", "{\"api_key\": \"hunter2hunter2\"}"],
            vec!["a", "{\"api_key\":\"hunter2hunter2\"}"],
            vec!["a", "Authorization: Basic hunter2hunter2"],
            vec!["a", "-H", "X-Api-Key: hunter2hunter2hunter2hunter2hunter2"],
        ] {
            let text = redacted(&command);
            assert!(text.contains(REDACTED), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_password_of_digits_is_a_password() {
        assert_eq!(redacted(&["a", "--password", "12345678"]), "a --password [redacted]");
        assert_eq!(redacted(&["sh", "-c", "PASSWORD=123 x"]), "sh -c PASSWORD=[redacted] x");
    }

    #[test]
    fn what_was_replaced_is_told_so_that_it_can_be_looked_for_elsewhere() {
        let command: Vec<Text> =
            ["a", "--password", "one-two-three", "TOKEN=four-five-six", "https://me:seven-eight@h/"]
                .map(Text::from)
                .into();
        let found: Vec<String> = secrets_in(&command).iter().map(|one| String::from_utf8_lossy(one).into()).collect();
        assert_eq!(found, ["one-two-three", "four-five-six", "seven-eight"]);
    }

    #[test]
    fn a_private_key_is_replaced_whole_also_where_it_is_cut_off() {
        let redacted =
            |text: &str| String::from_utf8_lossy(&redact_bytes(text.as_bytes(), &mut Vec::new())).into_owned();
        let key = "a -----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbg\n-----END OPENSSH PRIVATE KEY----- z";
        assert_eq!(redacted(key), "a [redacted] z");
        assert_eq!(redacted("a -----BEGIN PRIVATE KEY-----\nb3Blbg"), "a [redacted]");
        let certificate = "-----BEGIN CERTIFICATE-----\nb3Blbg\n-----END CERTIFICATE-----";
        assert_eq!(redacted(certificate), certificate);
    }

    #[test]
    fn a_long_text_made_to_be_slow_is_not() {
        // Quadratic, any one of them would take hours.
        for piece in ["key=", "key://", "a=", "-eyJ", "\"key\":", "://@", "-----BEGIN ", "bearer ", "sk-"] {
            let text = piece.repeat((2 << 20) / piece.len());
            assert!(!redact_bytes(text.as_bytes(), &mut Vec::new()).is_empty());
        }
    }

    #[test]
    fn ordinary_arguments_stay_as_they_are() {
        for command in [
            vec!["agent", "--keyboard", "us", "--max-tokens", "4096", "--max-tokens=99"],
            vec!["python3", "-m", "tokenizer", "sk-short"],
            vec!["git", "clone", "https://host/path@v1"],
            vec!["a", "key", "value"],
        ] {
            assert_eq!(redacted(&command), command.join(" "));
        }
    }
}
