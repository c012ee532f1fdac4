//! Progress on standard error, while it is a terminal: what is being done and for how long.

use std::sync::Mutex;
use std::time::Duration;

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cmd::render::escape;
use crate::run::progress::{Progress, Stage, Warning};

use super::args::When;
use super::settings::{Talk, Volume};
use super::terminal::say;

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// Shows stages and warnings.
#[derive(Debug)]
pub struct Shown {
    volume: Volume,
    animate: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Shown {
    /// As `--progress` and `--quiet` say.
    pub fn new(talk: Talk) -> Self {
        let animate = match talk.progress {
            When::Always => true,
            When::Never => false,
            When::Auto => {
                let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
                std::io::stderr().is_terminal() && !in_ci && talk.volume > Volume::Quiet
            }
        };
        Self { volume: talk.volume, animate, bar: Mutex::new(None) }
    }

    /// Takes the spinner off the screen.
    pub fn clear(&self) {
        if let Ok(mut bar) = self.bar.lock()
            && let Some(bar) = bar.take()
        {
            bar.finish_and_clear();
        }
    }

    fn show(&self, words: String) {
        let Ok(mut bar) = self.bar.lock() else { return };
        bar.get_or_insert_with(spinner).set_message(words);
    }
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    bar
}

impl Progress for Shown {
    fn stage(&self, stage: Stage) {
        // The agent's own output shares the terminal with a spinner badly: none while it runs.
        if stage == Stage::Running {
            self.clear();
        }
        let words = match stage {
            Stage::Snapshot { files, bytes } => format!("reading inputs: {files} files, {bytes}"),
            Stage::Running => "running the agent".to_owned(),
            Stage::Sealing => "reading what was staged".to_owned(),
            Stage::Verifying(ref command) => format!("verifying: {}", escape(&command.0)),
            Stage::Publishing => "publishing".to_owned(),
            Stage::Waiting { failed, of, ref why, wait } => {
                let seconds = wait.as_secs_f64();
                let why = escape(why.message.as_bytes());
                let words = format!("attempt {failed} of {of} failed: {why}; next in {seconds:.1} s");
                // A line of its own, also where nothing is animated: the attempts' outputs follow each other.
                if self.volume > Volume::Quiet {
                    self.clear();
                    say(&format!("agentguard: {words}"));
                }
                if self.animate {
                    self.show(format!("waiting {seconds:.1} s"));
                }
                return;
            }
        };
        if self.animate && stage != Stage::Running {
            self.show(words);
        } else if self.volume == Volume::Verbose && !matches!(stage, Stage::Snapshot { .. }) {
            say(&format!("agentguard: {words}"));
        }
    }

    fn note(&self, text: &str) {
        if self.volume == Volume::Verbose {
            say(&format!("agentguard: {}", escape(text.as_bytes())));
        }
    }

    fn warn(&self, warning: Warning) {
        if self.volume > Volume::Quiet {
            let line = format!("agentguard: warning: {}", escape(warning.0.as_bytes()));
            match self.bar.lock() {
                Ok(bar) => match &*bar {
                    Some(bar) => bar.suspend(|| say(&line)),
                    None => say(&line),
                },
                Err(_) => say(&line),
            }
        }
    }
}
