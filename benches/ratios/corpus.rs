//! Trees and files to measure on, the same bytes on every machine.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// Files per directory, as source trees have them.
const PER_DIRECTORY: u64 = 10;
/// Text that files are cut from.
const POOL_BYTES: usize = 4 << 20;
/// Longest piece taken from the pool at once.
const PIECE_BYTES: usize = 64 << 10;
const SMALLEST_FILE: usize = 40;

const KEYWORDS: &str = "fn let mut pub struct impl use self return if else for while match Some None Ok Err Result Option \
                        String Vec usize u64 i32 bool async await move Box dyn trait where type const static mod crate";
const LINE_ENDS: [&str; 5] = [";\n", " {\n", "}\n", "();\n", ",\n"];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// In (0, 1].
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Normally distributed (Box and Muller).
    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    fn pick<'a>(&mut self, among: &'a [String]) -> &'a str {
        &among[self.below(among.len())]
    }
}

/// A tree of `count` source-like files of `total` bytes, sizes log-normal as in real projects (median 4 KiB).
pub(crate) fn tree(root: &Path, count: u64, total: u64, seed: u64) -> anyhow::Result<()> {
    let mut random = Random(seed);
    let pool = pool(&mut random);
    let sizes: Vec<f64> = (0..count).map(|_| (8.3 + 1.35 * random.normal()).exp()).collect();
    let scale = total as f64 / sizes.iter().sum::<f64>();
    let mut content = Vec::new();
    for (number, size) in (0..).zip(&sizes) {
        let dir = directory(root, number / PER_DIRECTORY);
        if number % PER_DIRECTORY == 0 {
            fs::create_dir_all(&dir)?;
        }
        let size = ((size * scale) as usize).max(SMALLEST_FILE);
        content.clear();
        writeln!(content, "// file {number} {:016x}", random.next())?;
        while content.len() < size {
            let from = random.below(pool.len() - PIECE_BYTES);
            content.extend_from_slice(&pool[from..][..PIECE_BYTES.min(size - content.len())]);
        }
        content.truncate(size);
        fs::write(dir.join(format!("f{number}.rs")), &content)?;
    }
    Ok(())
}

fn directory(root: &Path, number: u64) -> PathBuf {
    root.join(format!("d{}/m{}/s{number}", number % 23, number / 23 % 37))
}

/// Lines that look like code.
fn pool(random: &mut Random) -> Vec<u8> {
    let keywords: Vec<String> = KEYWORDS.split_whitespace().map(str::to_owned).collect();
    let names: Vec<String> = (0..4000).map(|_| name(random)).collect();
    let mut pool = Vec::with_capacity(POOL_BYTES + 256);
    while pool.len() < POOL_BYTES {
        pool.resize(pool.len() + 4 * random.below(5), b' ');
        for word in 0..2 + random.below(8) {
            if word > 0 {
                pool.push(b' ');
            }
            let among = if random.below(10) < 4 { &keywords } else { &names };
            pool.extend_from_slice(random.pick(among).as_bytes());
        }
        pool.extend_from_slice(LINE_ENDS[random.below(LINE_ENDS.len())].as_bytes());
    }
    pool
}

fn name(random: &mut Random) -> String {
    let length = 3 + random.below(12);
    (0..length).map(|_| char::from(b"abcdefghijklmnopqrstuvwxyz_"[random.below(27)])).collect()
}

/// One file that nothing can compress.
pub(crate) fn random_file(path: &Path, total: u64, seed: u64) -> anyhow::Result<()> {
    let mut random = Random(seed);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for _ in 0..total / 8 {
        out.write_all(&random.next().to_le_bytes())?;
    }
    Ok(out.flush()?)
}
