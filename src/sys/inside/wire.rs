//! Messages with descriptors, over a stream socket: a length of four bytes that carries the descriptors, and the body.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv,
    recvmsg, sendmsg,
};

/// Most descriptors of one message.
pub(super) const MOST: usize = 4;

/// Sends one message. An error: nobody listens any more.
pub(super) fn send(socket: &UnixStream, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?.to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let sent =
        rustix::io::retry_on_intr(|| sendmsg(socket, &[IoSlice::new(&length)], &mut control, SendFlags::NOSIGNAL))?;
    let mut socket = socket;
    socket.write_all(&length[sent..])?;
    socket.write_all(body)
}

/// The next message; none once the other side is gone.
pub(super) fn receive(socket: &UnixStream) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut length = [0; 4];
    let taken = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut length)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })
    .ok()?
    .bytes;
    if taken == 0 {
        return None;
    }
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(given) = message {
            descriptors.extend(given);
        }
    }
    let mut socket = socket;
    socket.read_exact(&mut length[taken..]).ok()?;
    let mut body = vec![0; usize::try_from(u32::from_le_bytes(length)).ok()?];
    socket.read_exact(&mut body).ok()?;
    Some((body, descriptors))
}

/// The next line, without a byte of what follows it; empty once the other side is gone.
pub(super) fn receive_line(socket: &UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut seen = [0; 4096];
    loop {
        let (_, found) = rustix::io::retry_on_intr(|| recv(socket, &mut seen[..], RecvFlags::PEEK))?;
        let end = memchr::memchr(b'\n', &seen[..found]);
        let taken = end.map_or(found, |end| end + 1);
        let mut socket = socket;
        socket.read_exact(&mut seen[..taken])?;
        line.extend_from_slice(&seen[..taken]);
        if end.is_some() || taken == 0 {
            return Ok(line);
        }
    }
}
