//! The fields of a plan as bytes: numbers of variable length, paths as what they add to the one before. Reading never
//! panics: what is too short, or no number, is `None`.

use crate::model::Digest;
use crate::sys::walk::ObjectKind;
use crate::sys::xattr::{Xattr, Xattrs};

use super::attributes::Attributes;
use super::seen::Seen;

/// Appends a number: seven bits a byte, the lowest first (LEB128).
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Appends bytes as their difference from those before: how many at the front are the same, how many follow, and they.
pub(super) fn put_after(out: &mut Vec<u8>, before: &[u8], bytes: &[u8]) {
    let same = before.iter().zip(bytes).take_while(|(left, right)| left == right).count();
    put_number(out, same as u64);
    put_bytes(out, &bytes[same..]);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends an optional time: nothing is a zero, something a one before it.
pub(super) fn put_time(out: &mut Vec<u8>, time: Option<(i64, u32)>) {
    out.push(u8::from(time.is_some()));
    if let Some((secs, nanos)) = time {
        put_number(out, ((secs << 1) ^ (secs >> 63)).cast_unsigned());
        put_number(out, nanos.into());
    }
}

fn put_digest(out: &mut Vec<u8>, digest: Option<Digest>) {
    out.push(u8::from(digest.is_some()));
    if let Some(Digest(bytes)) = digest {
        out.extend_from_slice(&bytes);
    }
}

pub(super) fn put_seen(out: &mut Vec<u8>, seen: &Seen) {
    out.push(tag(seen.kind));
    put_number(out, seen.ino);
    for number in [seen.mode, seen.uid, seen.gid] {
        put_number(out, number.into());
    }
    put_number(out, seen.size);
    put_time(out, Some(seen.mtime));
    put_time(out, seen.ctime);
    put_digest(out, seen.below);
    put_digest(out, seen.content);
}

pub(super) fn put_attributes(out: &mut Vec<u8>, attributes: &Attributes) {
    out.push(tag(attributes.kind));
    put_number(out, attributes.ino);
    for number in [attributes.mode, attributes.uid, attributes.gid] {
        put_number(out, number.into());
    }
    put_number(out, attributes.size);
    put_time(out, attributes.mtime);
    put_number(out, attributes.xattrs.len() as u64);
    for Xattr { name, value } in &attributes.xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
}

const KINDS: [ObjectKind; 6] = [
    ObjectKind::File,
    ObjectKind::Directory,
    ObjectKind::Symlink,
    ObjectKind::Fifo,
    ObjectKind::Socket,
    ObjectKind::Device,
];

fn tag(kind: ObjectKind) -> u8 {
    match kind {
        ObjectKind::File => 0,
        ObjectKind::Directory => 1,
        ObjectKind::Symlink => 2,
        ObjectKind::Fifo => 3,
        ObjectKind::Socket => 4,
        ObjectKind::Device => 5,
    }
}

/// Takes fields off the front of some bytes.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits.leading_zeros() < shift {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// The inverse of [`put_after`].
    pub(super) fn after(&mut self, before: &[u8]) -> Option<Vec<u8>> {
        let same = usize::try_from(self.number()?).ok()?;
        Some([before.get(..same)?, self.bytes()?].concat())
    }

    fn is_there(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn time(&mut self) -> Option<Option<(i64, u32)>> {
        if !self.is_there()? {
            return Some(None);
        }
        let secs = self.number()?;
        let secs = (secs >> 1).cast_signed() ^ -((secs & 1).cast_signed());
        Some(Some((secs, self.small()?)))
    }

    fn digest(&mut self) -> Option<Option<Digest>> {
        if !self.is_there()? {
            return Some(None);
        }
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(Some(Digest(*taken)))
    }

    fn kind(&mut self) -> Option<ObjectKind> {
        KINDS.get(usize::from(self.byte()?)).copied()
    }

    pub(super) fn seen(&mut self) -> Option<Seen> {
        Some(Seen {
            kind: self.kind()?,
            ino: self.number()?,
            mode: self.small()?,
            uid: self.small()?,
            gid: self.small()?,
            size: self.number()?,
            mtime: self.time()??,
            ctime: self.time()?,
            below: self.digest()?,
            content: self.digest()?,
        })
    }

    pub(super) fn attributes(&mut self) -> Option<Attributes> {
        Some(Attributes {
            kind: self.kind()?,
            ino: self.number()?,
            mode: self.small()?,
            uid: self.small()?,
            gid: self.small()?,
            size: self.number()?,
            mtime: self.time()?,
            xattrs: self.xattrs()?,
        })
    }

    fn xattrs(&mut self) -> Option<Xattrs> {
        let count = self.number()?;
        let mut xattrs = Xattrs::new();
        for _ in 0..count {
            xattrs.push(Xattr { name: self.bytes()?.into(), value: self.bytes()?.into() });
        }
        Some(xattrs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_round_trip_and_nonsense_is_none() {
        let mut out = Vec::new();
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX];
        let times = [None, Some((0, 0)), Some((-1, 999_999_999)), Some((i64::MIN, 1)), Some((i64::MAX, 2))];
        numbers.iter().for_each(|number| put_number(&mut out, *number));
        times.iter().for_each(|time| put_time(&mut out, *time));
        let mut fields = Fields(&out);
        assert_eq!(numbers.map(|_| fields.number()), numbers.map(Some));
        assert_eq!(times.map(|_| fields.time()), times.map(Some));
        assert!(fields.0.is_empty() && fields.number().is_none());
        assert_eq!(Fields(&[0xff; 11]).number(), None);
        assert_eq!(Fields(&[0x80]).number(), None);
        assert_eq!(Fields(&[5, 0]).after(b"abc"), None, "more than there was before");
    }
}
