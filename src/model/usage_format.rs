//! `UsageFormat`: whose words are believed about tokens and cost (`--usage`).

use serde::{Deserialize, Serialize};

/// Where figures are read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "each name is that of the agent whose format it is")]
pub enum UsageFormat {
    /// Whatever is recognised in what the agent prints and writes.
    #[default]
    Auto,
    /// Nothing is read, and nothing the agent says of itself is believed.
    Off,
    /// Only `$AGENTGUARD_USAGE`.
    File,
    Claude,
    Codex,
    Gemini,
    Qwen,
    Opencode,
    Pi,
    Copilot,
    Aider,
    Mini,
    Llm,
    Cn,
}

impl UsageFormat {
    /// Whether what is said in the format of this name counts.
    pub fn wants(self, name: &str) -> bool {
        match self {
            Self::Auto => true,
            Self::Off | Self::File => false,
            Self::Claude => name == "claude",
            Self::Codex => name == "codex",
            Self::Gemini => name == "gemini",
            Self::Qwen => name == "qwen",
            Self::Opencode => name == "opencode",
            Self::Pi => name == "pi",
            Self::Copilot => name == "copilot",
            Self::Aider => name == "aider",
            Self::Mini => name == "mini",
            Self::Llm => name == "llm",
            Self::Cn => name == "cn",
        }
    }

    /// Whether the usage file counts.
    pub fn wants_file(self) -> bool {
        matches!(self, Self::Auto | Self::File)
    }
}
