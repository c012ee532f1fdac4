//! Floor 3: tokens and cost, and the agent's own word on how it came out, read from what agents print and write.

mod adapter;
mod aider;
pub mod api_error;
mod claude;
mod cn;
mod codex;
mod copilot;
pub mod figures;
mod gemini;
mod json;
mod lines;
mod llm;
pub mod meter;
mod mini;
mod opencode;
mod pi;
pub mod prices;
mod qwen;
pub mod reader;
mod rounded;
pub mod usage_file;
pub mod wire;
pub mod written_file;

pub use crate::model::usage_format::UsageFormat as Format;
