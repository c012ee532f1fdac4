//! Chance, from the kernel.

/// A number in 0..1, every one as likely; the middle where the kernel gives none.
pub fn fraction() -> f64 {
    let mut bytes = [0_u8; 8];
    match rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::NONBLOCK) {
        // 53 bits are what a double holds exactly.
        Ok(8) => (u64::from_ne_bytes(bytes) >> 11) as f64 / (1_u64 << 53) as f64,
        _ => 0.5,
    }
}
