//! Globs as gitignore(5) has them, matched byte by byte in time proportional to pattern times path at worst.

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Byte(u8),
    /// `?`: one byte that is no slash.
    Any,
    /// `[…]`: one bit per byte, never the slash's.
    OneOf(Box<[u64; 4]>),
    /// `*`: bytes that are no slashes.
    Run,
    /// `**/`: any number of whole components.
    Directories,
    /// A final `**`: anything.
    Rest,
}

/// The tokens of a pattern's text; none if it is malformed, which matches nothing. Git strips `literal` bytes at the
/// start before it looks at what is left: stars that follow stand at a beginning.
pub(super) fn tokens(text: &[u8], literal: usize) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let byte = text[at];
        at += 1;
        match byte {
            b'?' => tokens.push(Token::Any),
            b'*' => at = star(text, at - 1, literal, &mut tokens),
            b'[' => {
                let (set, after) = bracket(text, at)?;
                tokens.push(Token::OneOf(set));
                at = after;
            }
            b'\\' => {
                tokens.push(Token::Byte(*text.get(at)?));
                at += 1;
            }
            byte => tokens.push(Token::Byte(byte)),
        }
    }
    Some(tokens)
}

/// Stars from `start` on. Two or more that fill a whole component match any number of components, else they are one.
fn star(text: &[u8], start: usize, literal: usize, tokens: &mut Vec<Token>) -> usize {
    let end = text[start..].iter().position(|byte| *byte != b'*').map_or(text.len(), |len| start + len);
    let after = &text[end..];
    let follows_slash = start == literal || start == 0 || text[start - 1] == b'/';
    if end - start < 2 || !follows_slash {
        tokens.push(Token::Run);
        return end;
    }
    match after {
        [] => tokens.push(Token::Rest),
        [b'/', ..] => {
            tokens.push(Token::Directories);
            return end + 1;
        }
        // An escaped slash keeps git from trying no component at all.
        [b'\\', b'/', ..] => {
            tokens.extend([Token::Run, Token::Byte(b'/'), Token::Directories]);
            return end + 2;
        }
        _ => tokens.push(Token::Run),
    }
    end
}

/// A bracket expression whose `[` is before `at`: the bytes it matches, and where it ends.
fn bracket(text: &[u8], mut at: usize) -> Option<(Box<[u64; 4]>, usize)> {
    let negated = matches!(text.get(at), Some(b'!' | b'^'));
    at += usize::from(negated);
    let mut set = Set([0; 4]);
    let mut previous = None;
    let mut first = true;
    loop {
        let byte = *text.get(at)?;
        at += 1;
        match byte {
            b']' if !first => break,
            b'-' if previous.is_some() && !matches!(text.get(at), None | Some(b']')) => {
                let (high, after) = escaped(text, at)?;
                at = after;
                (previous.take()?..=high).for_each(|byte| set.insert(byte));
            }
            b'[' if text.get(at) == Some(&b':') && class_end(text, at + 1).is_some() => {
                let end = class_end(text, at + 1)?;
                let class = class_named(&text[at + 1..end - 2])?;
                (0..=u8::MAX).filter(class).for_each(|byte| set.insert(byte));
                (at, previous) = (end, None);
            }
            _ => {
                let (byte, after) = escaped(text, at - 1)?;
                at = after;
                set.insert(byte);
                previous = Some(byte);
            }
        }
        first = false;
    }
    if negated {
        set.0 = set.0.map(|bits| !bits);
    }
    set.remove(b'/');
    Some((Box::new(set.0), at))
}

/// A byte of a bracket expression, and where the next begins.
fn escaped(text: &[u8], at: usize) -> Option<(u8, usize)> {
    match *text.get(at)? {
        b'\\' => Some((*text.get(at + 1)?, at + 2)),
        byte => Some((byte, at + 1)),
    }
}

/// One past the `:]` of a class whose name begins at `at`; none if the next `]` does not end one.
fn class_end(text: &[u8], at: usize) -> Option<usize> {
    let end = at + text.get(at..)?.iter().position(|byte| *byte == b']')?;
    (end > at && text[end - 1] == b':').then_some(end + 1)
}

fn class_named(name: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| matches!(byte, b' '..=b'~'),
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |byte| matches!(byte, b' ' | b'\t'..=b'\r'),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}

struct Set([u64; 4]);

impl Set {
    fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte) / 64] |= 1 << (byte % 64);
    }

    fn remove(&mut self, byte: u8) {
        self.0[usize::from(byte) / 64] &= !(1 << (byte % 64));
    }
}

impl Token {
    /// Whether this token, one of those that stand for exactly one byte, stands for this one.
    fn is_for(&self, byte: u8) -> bool {
        match self {
            Self::Byte(own) => *own == byte,
            Self::Any => byte != b'/',
            Self::OneOf(set) => set[usize::from(byte) / 64] & (1 << (byte % 64)) != 0,
            Self::Run | Self::Directories | Self::Rest => false,
        }
    }
}

/// Whether the tokens stand for the whole text.
///
/// Two places to come back to are enough: the last `*` may take more of its component, the last `**/` more components.
/// What an earlier one could take instead, the last one can take too.
pub(super) fn glob_matches(tokens: &[Token], text: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut run: Option<(usize, usize)> = None;
    let mut directories: Option<(usize, usize)> = None;
    loop {
        match tokens.get(token) {
            None if at == text.len() => return true,
            Some(Token::Rest) => return true,
            Some(Token::Run) => {
                token += 1;
                run = Some((token, at));
                continue;
            }
            Some(Token::Directories) => {
                token += 1;
                (directories, run) = (Some((token, at)), None);
                continue;
            }
            Some(one) if at < text.len() && one.is_for(text[at]) => {
                (token, at) = (token + 1, at + 1);
                continue;
            }
            _ => {}
        }
        if let Some((after, end)) = run
            && end < text.len()
            && text[end] != b'/'
        {
            run = Some((after, end + 1));
            (token, at) = (after, end + 1);
        } else if let Some((after, start)) = directories
            && let Some(len) = text[start..].iter().position(|byte| *byte == b'/')
        {
            let next = start + len + 1;
            (directories, run) = (Some((after, next)), None);
            (token, at) = (after, next);
        } else {
            return false;
        }
    }
}
