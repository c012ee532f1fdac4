//! The keys of a git configuration file that make git run something or read elsewhere, and their values.
//!
//! A change to one of them turns the next `git status` of whoever trusts the project into a program of the agent's
//! choosing. The grammar is that of git-config(1): sections, subsections, `\` continuation, quotes and comments; names
//! of sections and keys do not count case.

/// Dangerous settings, in the order of the file: the key as git spells it (`section.subsection.key`) and its raw value.
pub type Settings = Vec<(String, Vec<u8>)>;

/// What git-config(1) says is run by a shell, found as a program, or read from a path.
const KEYS: [&str; 22] = [
    "core.hookspath",
    "core.fsmonitor",
    "core.sshcommand",
    "core.editor",
    "core.pager",
    "core.askpass",
    "core.attributesfile",
    "core.excludesfile",
    "core.gitproxy",
    "core.alternaterefscommand",
    "sequence.editor",
    "init.templatedir",
    "gpg.program",
    "interactive.difffilter",
    "uploadpack.packobjectshook",
    "web.browser",
    "diff.external",
    "sendemail.smtpserver",
    "commit.template",
    "extensions.worktreeconfig",
    "receive.procreceiverefs",
    "fetch.bundleuri",
];

/// Sections of which every key counts.
const SECTIONS: [&str; 9] =
    ["alias", "include", "includeif", "credential", "filter", "merge", "pager", "url", "browser"];

/// Keys that count under any subsection of a section.
const IN_SUBSECTIONS: [(&str, &str); 16] = [
    ("diff", "command"),
    ("diff", "textconv"),
    ("difftool", "cmd"),
    ("difftool", "path"),
    ("mergetool", "cmd"),
    ("mergetool", "path"),
    ("gpg", "program"),
    ("gpg", "defaultkeycommand"),
    ("remote", "uploadpack"),
    ("remote", "receivepack"),
    ("remote", "vcs"),
    ("remote", "proxy"),
    ("submodule", "update"),
    ("man", "cmd"),
    ("guitool", "cmd"),
    ("trailer", "command"),
];

/// Keys of `merge` that only choose how git itself works.
const HARMLESS: [&str; 8] = [
    "merge.conflictstyle",
    "merge.ff",
    "merge.log",
    "merge.renames",
    "merge.renamelimit",
    "merge.stat",
    "merge.verbosity",
    "merge.autostash",
];

/// The settings of a file that must not change unnoticed. A line that git would refuse counts as a setting of its own:
/// what it does is not known.
pub fn dangerous(text: &[u8]) -> Settings {
    let mut found = Vec::new();
    let mut section = Section::default();
    for line in logical_lines(text) {
        let mut rest = trim(&line);
        if rest.first() == Some(&b'[') {
            match Section::parse(rest) {
                Some((parsed, after)) => {
                    section = parsed;
                    rest = trim(after);
                }
                None => {
                    found.push(("unreadable".to_owned(), rest.to_vec()));
                    continue;
                }
            }
        }
        if rest.is_empty() || matches!(rest[0], b'#' | b';') {
            continue;
        }
        let (key, value) = match rest.iter().position(|byte| *byte == b'=') {
            Some(at) => (trim(&rest[..at]), trim(&rest[at + 1..])),
            None => (rest, &b"true"[..]),
        };
        let key = String::from_utf8_lossy(key).to_ascii_lowercase();
        if section.is_dangerous(&key) {
            found.push((section.full_key(&key), value.to_vec()));
        }
    }
    found
}

/// The first key whose settings differ between two files; `None` if the same things are run and read.
pub fn changed_key(before: &[u8], after: &[u8]) -> Option<String> {
    let (before, after) = (dangerous(before), dangerous(after));
    let differing = |one: &Settings, other: &Settings| {
        one.iter().find(|(key, _)| values(one, key) != values(other, key)).map(|(key, _)| key.clone())
    };
    differing(&after, &before).or_else(|| differing(&before, &after))
}

fn values<'a>(settings: &'a Settings, key: &str) -> Vec<&'a [u8]> {
    settings.iter().filter(|(one, _)| one == key).map(|(_, value)| &value[..]).collect()
}

#[derive(Default)]
struct Section {
    name: String,
    subsection: String,
}

impl Section {
    /// `[name]`, `[name "sub"]` or the old `[name.sub]`, and what follows on the line.
    fn parse(text: &[u8]) -> Option<(Self, &[u8])> {
        let mut quoted = false;
        let mut escaped = false;
        let end = text.iter().position(|byte| {
            let close = *byte == b']' && !quoted;
            quoted ^= *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            close
        })?;
        let inside = String::from_utf8_lossy(trim(&text[1..end])).into_owned();
        let (name, subsection) = match inside.split_once('"') {
            Some((name, quoted)) => (name.trim(), quoted.trim_end_matches('"').to_owned()),
            None => match inside.split_once('.') {
                Some((name, subsection)) => (name, subsection.to_owned()),
                None => (&inside[..], String::new()),
            },
        };
        Some((Self { name: name.trim().to_ascii_lowercase(), subsection }, &text[end + 1..]))
    }

    fn full_key(&self, key: &str) -> String {
        match self.subsection.is_empty() {
            true => format!("{}.{key}", self.name),
            false => format!("{}.{}.{key}", self.name, self.subsection),
        }
    }

    fn is_dangerous(&self, key: &str) -> bool {
        let plain = format!("{}.{key}", self.name);
        if HARMLESS.contains(&&*plain) {
            return false;
        }
        KEYS.contains(&&*plain)
            || SECTIONS.contains(&&*self.name)
            || IN_SUBSECTIONS.iter().any(|(section, one)| *section == self.name && *one == key)
    }
}

/// Lines with their continuations (a backslash at the end) joined.
fn logical_lines(text: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let mut continued = false;
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let slashes = line.iter().rev().take_while(|byte| **byte == b'\\').count();
        let (part, goes_on) = if slashes % 2 == 1 { (&line[..line.len() - 1], true) } else { (line, false) };
        match lines.last_mut().filter(|_| continued) {
            Some(last) => last.extend_from_slice(part),
            None => lines.push(part.to_vec()),
        }
        continued = goes_on;
    }
    lines
}

fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<String> {
        dangerous(text.as_bytes()).into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn what_makes_git_run_something_is_found_however_it_is_written() {
        assert_eq!(keys("[core]\n\thooksPath = /tmp/x\n"), ["core.hookspath"]);
        assert_eq!(keys("[CORE] FSMonitor=x\n"), ["core.fsmonitor"]);
        assert_eq!(keys("[alias]\n co = !sh\n"), ["alias.co"]);
        assert_eq!(keys("[filter \"lfs\"]\nclean = x\nsmudge = y\n"), ["filter.lfs.clean", "filter.lfs.smudge"]);
        assert_eq!(keys("[diff \"x]y\"]\ncommand = z\n"), ["diff.x]y.command"]);
        assert_eq!(keys("[include]\npath = ../evil\n"), ["include.path"]);
        assert_eq!(keys("[includeIf \"gitdir:/\"]\npath = a\\\nb\n"), ["includeif.gitdir:/.path"]);
        assert_eq!(keys("[url \"x\"]\ninsteadOf = y\n"), ["url.x.insteadof"]);
        assert_eq!(keys("[merge \"driver\"]\ndriver = z\n"), ["merge.driver.driver"]);
        assert_eq!(keys("[core\nfoo = bar\n"), ["unreadable"]);
    }

    #[test]
    fn what_git_itself_writes_all_day_is_not() {
        let usual = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n[remote \"origin\"]\n\turl = \
                     https://example.org/x\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n[branch \"main\"]\n\tremote = \
                     origin\n\tmerge = refs/heads/main\n[user]\n\tname = x ; [alias] a = b\n[merge]\n\tff = only\n";
        assert_eq!(keys(usual), Vec::<String>::new());
    }

    #[test]
    fn only_a_difference_in_such_a_key_counts() {
        let before = b"[core]\n\tpager = less\n[branch \"a\"]\n\tremote = o\n";
        assert_eq!(changed_key(before, b"[branch \"b\"]\n\tremote = p\n[core]\n\tpager = less\n"), None);
        assert_eq!(changed_key(before, b"[core]\n\tpager = evil\n"), Some("core.pager".to_owned()));
        assert_eq!(changed_key(before, b""), Some("core.pager".to_owned()));
        assert_eq!(changed_key(b"", before), Some("core.pager".to_owned()));
    }
}
