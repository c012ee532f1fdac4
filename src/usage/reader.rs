//! The reader of what an agent prints on one stream: it cuts it into lines and gives each to the formats that know it.
//! Which agent it is, is seen by what it prints, not by its name; several may follow each other in a script.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::Format;
use super::adapter::{Adapter, Heard};
use super::aider::Aider;
use super::api_error::Verdict;
use super::claude::Claude;
use super::cn::Cn;
use super::codex::Codex;
use super::copilot::Copilot;
use super::figures::Figures;
use super::gemini::Gemini;
use super::json::kind_of;
use super::lines::{Lines, Piece};
use super::llm::Llm;
use super::mini::{Mini, named_file};
use super::opencode::OpenCode;
use super::pi::Pi;

/// How lines of text begin that some format wants to see.
pub(super) const TEXT_STARTS: [&str; 7] =
    ["Tokens", "Token usage:", "Error: ", "litellm.", "Aider v", "Model: ", "Saved trajectory to "];

/// A stream in which no format was seen by then is not looked at any further, but for its end.
const PATIENCE_BYTES: u64 = 8 << 20;

/// Counts what is said of outcomes, on whatever stream: the last word counts.
static WORDS: AtomicU64 = AtomicU64::new(0);

/// What an agent has said on one stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The formats that had figures.
    pub formats: Vec<&'static str>,
    /// What was used.
    pub figures: Option<Figures>,
    /// How it says that it failed.
    pub verdict: Option<Verdict>,
    /// When it last said how it came out, in the order of all that was said in this process.
    pub concluded: Option<u64>,
    /// A file that it says it has written, with more.
    pub named_file: Option<String>,
}

/// The reader of one stream.
#[derive(Debug)]
pub struct Reader {
    lines: Lines,
    heard: Hearing,
    seen_bytes: u64,
}

#[derive(Debug)]
struct Hearing {
    adapters: Vec<Box<dyn Adapter>>,
    /// Types of lines that somebody wants to see, sorted, and who.
    wanted: Vec<(&'static str, Vec<usize>)>,
    /// Any format was recognised.
    recognised: bool,
    /// Something was told since this was last asked.
    news: bool,
    /// The one that last told of an outcome, and when.
    concluded: Option<(usize, u64)>,
    named_file: Option<String>,
}

impl Reader {
    /// Reads what `format` says; nothing where none is wanted.
    pub fn new(format: Format) -> Self {
        let all: Vec<Box<dyn Adapter>> = vec![
            Box::new(Codex::default()),
            Box::new(Claude::new()),
            Box::new(Claude::qwen()),
            Box::new(Gemini::default()),
            Box::new(OpenCode::default()),
            Box::new(Pi::default()),
            Box::new(Copilot::default()),
            // Before the others that know the library it uses.
            Box::new(Mini::default()),
            Box::new(Aider::default()),
            Box::new(Llm::default()),
            Box::new(Cn::default()),
        ];
        let adapters: Vec<_> = all.into_iter().filter(|adapter| format.wants(adapter.format())).collect();
        let mut wanted: BTreeMap<&'static str, Vec<usize>> = BTreeMap::new();
        for (at, adapter) in adapters.iter().enumerate() {
            adapter.kinds().iter().for_each(|kind| wanted.entry(kind).or_default().push(at));
        }
        let wanted = wanted.into_iter().collect();
        let heard = Hearing { adapters, wanted, recognised: false, news: false, concluded: None, named_file: None };
        Self { lines: Lines::default(), heard, seen_bytes: 0 }
    }

    /// Takes the next bytes. Whether figures may have changed.
    pub fn take(&mut self, bytes: &[u8]) -> bool {
        if !self.is_listening() {
            return false;
        }
        self.seen_bytes = self.seen_bytes.saturating_add(bytes.len() as u64);
        let heard = &mut self.heard;
        self.lines.take(bytes, &mut |piece| heard.piece(piece));
        std::mem::take(&mut self.heard.news)
    }

    /// Whether it still looks at what comes.
    fn is_listening(&self) -> bool {
        !self.heard.adapters.is_empty() && (self.heard.recognised || self.seen_bytes < PATIENCE_BYTES)
    }

    /// The stream has ended; `tail` gives its last bytes, should not all have been looked at.
    pub fn finish(&mut self, tail: impl FnOnce() -> Vec<u8>) {
        if !self.is_listening() && !self.heard.adapters.is_empty() {
            self.lines = Lines::default();
            let tail = tail();
            // The first line of it may be a part of one.
            let whole = memchr::memchr(b'\n', &tail).map_or(tail.len(), |end| end + 1);
            let heard = &mut self.heard;
            self.lines.take(&tail[whole..], &mut |piece| heard.piece(piece));
        }
        let heard = &mut self.heard;
        self.lines.finish(&mut |piece| heard.piece(piece));
    }

    /// What was said by now.
    pub fn reading(&self) -> Reading {
        let known = || self.heard.adapters.iter().filter_map(|one| Some((one.format(), one.figures()?)));
        let mut figures = known().map(|(_, figures)| figures).reduce(Figures::and);
        if let Some(figures) = figures.as_mut().filter(|_| self.lines.lost_some()) {
            figures.exact = false;
        }
        Reading {
            formats: known().map(|(format, _)| format).collect(),
            figures,
            verdict: self.heard.concluded.and_then(|(at, _)| self.heard.adapters[at].verdict()),
            concluded: self.heard.concluded.map(|(_, when)| when),
            named_file: self.heard.named_file.clone(),
        }
    }
}

/// What an agent printed behind a line that somebody else had not ended.
fn behind(line: &[u8]) -> Option<&[u8]> {
    line.ends_with(b"}").then(|| memchr::memmem::find(line, b"{\"type\":")).flatten().map(|at| &line[at..])
}

impl Hearing {
    fn piece(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Line([b'{', ..]) | Piece::Line([b'[', b'{', ..]) => {
                if let Piece::Line(line) = piece {
                    self.json(line);
                }
            }
            Piece::Line(line) => match behind(line) {
                Some(json) => self.json(json),
                None => self.text(line),
            },
            Piece::Document(bytes) => {
                if let Ok(object) = serde_json::from_slice::<Value>(bytes) {
                    self.object(&object);
                }
            }
        }
    }

    fn json(&mut self, line: &[u8]) {
        if line.starts_with(b"[") {
            self.array(line);
        } else if let Some(kind) = kind_of(line) {
            self.typed(kind, line);
        } else if [&b"\"status\""[..], b"\"stats\""].iter().any(|word| memchr::memmem::find(line, word).is_some())
            && let Ok(object) = serde_json::from_slice::<Value>(line)
        {
            self.object(&object);
        }
    }

    /// All lines of a stream as one array, as some agents print them.
    fn array(&mut self, line: &[u8]) {
        if kind_of(line) != Some("system") {
            return;
        }
        let Ok(Value::Array(lines)) = serde_json::from_slice::<Value>(line) else { return };
        for line in &lines {
            if let Some(kind) = line.get("type").and_then(Value::as_str) {
                self.typed(kind, line.to_string().as_bytes());
            }
        }
    }

    fn typed(&mut self, kind: &str, line: &[u8]) {
        let Ok(found) = self.wanted.binary_search_by(|(known, _)| (*known).cmp(kind)) else { return };
        for who in 0..self.wanted[found].1.len() {
            let at = self.wanted[found].1[who];
            let heard = self.adapters[at].json(kind, line);
            self.note(at, heard);
        }
    }

    fn object(&mut self, object: &Value) {
        for at in 0..self.adapters.len() {
            let heard = self.adapters[at].object(object);
            self.note(at, heard);
        }
    }

    fn text(&mut self, line: &[u8]) {
        let is_wanted = line.first().is_some_and(|first| b"TElAMS".contains(first))
            && TEXT_STARTS.iter().any(|start| line.starts_with(start.as_bytes()));
        if !is_wanted {
            return;
        }
        let line = String::from_utf8_lossy(line);
        if let Some(file) = named_file(&line) {
            self.named_file = Some(file.to_owned());
        }
        for at in 0..self.adapters.len() {
            let heard = self.adapters[at].text(&line);
            self.note(at, heard);
        }
    }

    fn note(&mut self, at: usize, heard: Heard) {
        match heard {
            Heard::Nothing => return,
            Heard::Something => {}
            Heard::Outcome => self.concluded = Some((at, WORDS.fetch_add(1, Ordering::Relaxed))),
        }
        (self.recognised, self.news) = (true, true);
    }
}
