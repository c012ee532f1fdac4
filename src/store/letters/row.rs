//! One row of the index: a letter in 96 bytes, little endian, the last eight a checksum of the others and of the row's
//! place, so that a row that was never written, half written or written elsewhere is seen.

use crate::model::error_kind::ErrorClass;
use crate::model::letter::{Fate, Letter, Spent};
use crate::model::{RunId, Timestamp};

/// Bytes of a row.
pub(super) const ROW_BYTES: usize = 96;

const CLASSES: [Option<ErrorClass>; 6] = [
    None,
    Some(ErrorClass::CleanAbort),
    Some(ErrorClass::PartialWrite),
    Some(ErrorClass::SilentDrift),
    Some(ErrorClass::Cascade),
    Some(ErrorClass::PublishFailed),
];
const FATES: [Fate; 3] = [Fate::Waiting, Fate::Redriven, Fate::Acknowledged];

/// A sum over 64-bit words that any changed bit changes; no protection from a forger, who could write the file anyway.
pub(super) fn checksum(bytes: &[u8], place: u64) -> u64 {
    let mut sum = place.wrapping_add(0x9E37_79B9_7F4A_7C15);
    for word in bytes.chunks(8) {
        let mut padded = [0; 8];
        padded[..word.len()].copy_from_slice(word);
        sum = (sum ^ u64::from_le_bytes(padded)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        sum ^= sum >> 32;
    }
    sum
}

/// The letter as row number `place`.
pub(super) fn encode(letter: &Letter, place: u64) -> [u8; ROW_BYTES] {
    let (tag, dollars) = match letter.spent {
        Spent::Nothing => (0, 0.0),
        Spent::Known(dollars) => (1, dollars),
        Spent::Unknown => (2, 0.0),
    };
    let class = CLASSES.iter().position(|class| *class == letter.class).unwrap_or(0);
    let fate = FATES.iter().position(|fate| *fate == letter.fate).unwrap_or(0);
    let mut row = Vec::with_capacity(ROW_BYTES);
    row.extend_from_slice(letter.run_id.as_bytes());
    for word in [
        letter.offset,
        letter.start.unix_micros().cast_unsigned(),
        letter.end.unix_micros().cast_unsigned(),
        letter.newest_redrive.unwrap_or(0),
        letter.agent_mark,
        f64::to_bits(dollars),
    ] {
        row.extend_from_slice(&word.to_le_bytes());
    }
    row.extend_from_slice(&letter.attempts.to_le_bytes());
    row.extend_from_slice(&letter.receives.to_le_bytes());
    row.extend_from_slice(&[tag, u8::try_from(class).unwrap_or(0), u8::try_from(fate).unwrap_or(0)]);
    row.resize(ROW_BYTES - 8, 0);
    row.extend_from_slice(&checksum(&row, place).to_le_bytes());
    let mut fixed = [0; ROW_BYTES];
    fixed.copy_from_slice(&row);
    fixed
}

/// The id in a row, whatever else it holds.
pub(super) fn id_in(row: &[u8]) -> &[u8] {
    &row[..16]
}

/// Whether the letter in the row still waits; asked of many rows.
pub(super) fn is_waiting(row: &[u8]) -> bool {
    row[74] == 0
}

/// The letter in row number `place`; `None` where these are not the bytes that were written there.
pub(super) fn decode(row: &[u8], place: u64) -> Option<Letter> {
    let (fields, check) = row.split_at_checked(ROW_BYTES - 8)?;
    if check != checksum(fields, place).to_le_bytes() {
        return None;
    }
    let word = |at: usize| fields.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let half = |at: usize| fields.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let time = |at: usize| word(at).map(|micros| Timestamp::from_unix_micros(micros.cast_signed()));
    Some(Letter {
        run_id: RunId::from_bytes(id_in(fields).try_into().ok()?)?,
        offset: word(16)?,
        start: time(24)?,
        end: time(32)?,
        newest_redrive: word(40).filter(|offset| *offset > 0),
        agent_mark: word(48)?,
        attempts: half(64)?,
        receives: half(68)?,
        spent: match fields[72] {
            0 => Spent::Nothing,
            1 => Spent::Known(f64::from_bits(word(56)?)),
            _ => Spent::Unknown,
        },
        class: *CLASSES.get(usize::from(fields[73]))?,
        fate: *FATES.get(usize::from(fields[74]))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back_as_it_was_and_any_other_bit_or_place_is_seen() {
        let letter = Letter {
            run_id: RunId::mint(1_764_000_000_000, [7; 10]),
            offset: 4711,
            start: Timestamp::from_unix_micros(-5),
            end: Timestamp::from_unix_micros(1_764_000_000_000_001),
            class: Some(ErrorClass::Cascade),
            attempts: 3,
            receives: 2,
            spent: Spent::Known(0.25),
            fate: Fate::Acknowledged,
            newest_redrive: Some(99),
            agent_mark: u64::MAX,
        };
        let row = encode(&letter, 5);
        assert_eq!(decode(&row, 5), Some(letter));
        assert_eq!(decode(&row, 6), None);
        assert_eq!(decode(&[0; ROW_BYTES], 0), None);
        for bit in 0..ROW_BYTES * 8 {
            let mut other = row;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&other, 5), None, "bit {bit}");
        }
    }
}
