//! Bytes moved from socket to socket inside the kernel, by way of a pipe (`splice(2)`, Linux): for a flow of large pieces that
//! costs 0.7 of what copying does (docs/performance.md). Elsewhere than on Linux nothing is ever moved so.

use tokio::net::{TcpStream, UnixStream};

/// A connection that is nothing but a socket.
#[derive(Clone, Copy)]
pub(super) enum Socket<'a> {
    Tcp(&'a TcpStream),
    Unix(&'a UnixStream),
}

/// What of a connection is a socket, if it is nothing else.
pub(super) type Lend<S> = fn(&S) -> Option<Socket<'_>>;

#[cfg(target_os = "linux")]
pub(super) use linux::Pipe;
#[cfg(not(target_os = "linux"))]
pub(super) use nowhere::Pipe;

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::{AsRawFd as _, OwnedFd};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::task::{Context, Poll, ready};

    use rustix::io::Errno;
    use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};
    use tokio::io::Interest;

    use super::Socket;
    use crate::process;

    /// How much a pipe holds, and so how much is moved at once.
    const ROOM: usize = 256 * 1024;
    /// A pipe that the system makes smaller than this (a user may have so much in pipes) is of no use.
    const LEAST_ROOM: usize = 64 * 1024;
    /// So many pipes there may be: with [`ROOM`] each that is what Linux gives a user in all (`pipe-user-pages-soft`), and it
    /// bounds the descriptors. Whoever comes later is copied.
    const MOST: usize = 256;
    const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

    static OPEN: AtomicUsize = AtomicUsize::new(0);
    /// This system does not move bytes between such sockets: nothing is tried again.
    static UNFIT: AtomicBool = AtomicBool::new(false);

    /// The pipe of one direction, and what is in it.
    pub(in crate::proxy) struct Pipe {
        reading: OwnedFd,
        writing: OwnedFd,
        room: usize,
        held: usize,
        _place: Place,
    }

    /// A place among the [`MOST`].
    struct Place;

    impl Place {
        fn take() -> Option<Self> {
            let taken = OPEN.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < MOST).then_some(n + 1));
            taken.is_ok().then_some(Self)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            OPEN.fetch_sub(1, Ordering::AcqRel);
        }
    }

    impl Pipe {
        /// A pipe, where there is room for another.
        pub(in crate::proxy) fn open() -> Option<Self> {
            if UNFIT.load(Ordering::Relaxed) {
                return None;
            }
            let place = Place::take()?;
            let (reading, writing) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
            // The last descriptors are for others.
            if process::is_spare(writing.as_raw_fd()) {
                return None;
            }
            // Where the user has too much in pipes already it stays as it was made.
            let _ = fcntl_setpipe_size(&writing, ROOM);
            let room = fcntl_getpipe_size(&writing).ok().filter(|room| *room >= LEAST_ROOM)?;
            Some(Self { reading, writing, room, held: 0, _place: place })
        }

        /// Nothing is in it.
        pub(in crate::proxy) fn is_empty(&self) -> bool {
            self.held == 0
        }

        /// Whether an error says that the system cannot do it (a kernel or a sandbox without it), and nothing of the
        /// connection. Then nobody tries again.
        pub(in crate::proxy) fn is_unfit(error: &io::Error) -> bool {
            let unfit = Errno::from_io_error(error).is_some_and(|e| [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::PERM].contains(&e));
            UNFIT.fetch_or(unfit, Ordering::Relaxed);
            unfit
        }

        /// Takes what is in it back.
        pub(in crate::proxy) fn take_back(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
            let start = into.len();
            into.resize(start + self.held, 0);
            while self.held > 0 {
                let at = into.len() - self.held;
                self.held -= rustix::io::read(&self.reading, &mut into[at..])?;
            }
            Ok(())
        }

        /// Fills the empty pipe; `0` is the end.
        pub(in crate::proxy) fn poll_fill(&mut self, from: Socket<'_>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
            debug_assert!(self.is_empty(), "a pipe that is not empty may be full");
            let writing = &self.writing;
            let room = self.room;
            let moved = ready!(from.poll_io(Interest::READABLE, cx, || match from {
                Socket::Tcp(s) => splice(s, None, writing, None, room, FLAGS),
                Socket::Unix(s) => splice(s, None, writing, None, room, FLAGS),
            }))?;
            self.held = moved;
            Poll::Ready(Ok(moved))
        }

        /// Empties the pipe. Ready when all has gone.
        pub(in crate::proxy) fn poll_empty(&mut self, to: Socket<'_>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            while self.held > 0 {
                let (reading, held) = (&self.reading, self.held);
                let moved = ready!(to.poll_io(Interest::WRITABLE, cx, || match to {
                    Socket::Tcp(s) => splice(reading, None, s, None, held, FLAGS),
                    Socket::Unix(s) => splice(reading, None, s, None, held, FLAGS),
                }))?;
                if moved == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.held -= moved;
            }
            Poll::Ready(Ok(()))
        }
    }

    impl Socket<'_> {
        fn poll_io(self, interest: Interest, cx: &mut Context<'_>, mut io: impl FnMut() -> rustix::io::Result<usize>) -> Poll<io::Result<usize>> {
            loop {
                ready!(match (self, interest.is_readable()) {
                    (Socket::Tcp(s), true) => s.poll_read_ready(cx),
                    (Socket::Tcp(s), false) => s.poll_write_ready(cx),
                    (Socket::Unix(s), true) => s.poll_read_ready(cx),
                    (Socket::Unix(s), false) => s.poll_write_ready(cx),
                })?;
                let mut once = || io().map_err(io::Error::from);
                let done = match self {
                    Socket::Tcp(s) => s.try_io(interest, &mut once),
                    Socket::Unix(s) => s.try_io(interest, &mut once),
                };
                match done {
                    // It was not ready after all, and is asked again.
                    Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                    done => return Poll::Ready(done),
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod nowhere {
    use std::io;
    use std::task::{Context, Poll};

    use super::Socket;
    use crate::process;

    /// There is none.
    pub(in crate::proxy) enum Pipe {}

    impl Pipe {
        pub(in crate::proxy) fn open() -> Option<Self> {
            None
        }

        pub(in crate::proxy) fn is_empty(&self) -> bool {
            match *self {}
        }

        pub(in crate::proxy) fn is_unfit(_: &io::Error) -> bool {
            true
        }

        pub(in crate::proxy) fn take_back(&mut self, _: &mut Vec<u8>) -> io::Result<()> {
            match *self {}
        }

        pub(in crate::proxy) fn poll_fill(&mut self, _: Socket<'_>, _: &mut Context<'_>) -> Poll<io::Result<usize>> {
            match *self {}
        }

        pub(in crate::proxy) fn poll_empty(&mut self, _: Socket<'_>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            match *self {}
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().expect("made")
    }

    #[tokio::test]
    async fn what_goes_in_comes_out_or_is_taken_back() {
        let ((mut writing, from), (to, mut reading)) = (pair().await, pair().await);
        let mut pipe = Pipe::open().expect("there is room");
        let sent: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        writing.write_all(&sent).await.expect("sent");
        let mut came = Vec::new();
        let mut back = Vec::new();
        while came.len() + back.len() < sent.len() {
            let filled = std::future::poll_fn(|cx| pipe.poll_fill(Socket::Unix(&from), cx)).await.expect("filled");
            assert!(filled > 0 && !pipe.is_empty());
            if came.is_empty() {
                std::future::poll_fn(|cx| pipe.poll_empty(Socket::Unix(&to), cx)).await.expect("emptied");
                came.resize(filled, 0);
                reading.read_exact(&mut came).await.expect("it came");
            } else {
                pipe.take_back(&mut back).expect("taken back");
            }
            assert!(pipe.is_empty());
        }
        assert!([came, back].concat() == sent);
        drop(writing);
        assert_eq!(std::future::poll_fn(|cx| pipe.poll_fill(Socket::Unix(&from), cx)).await.expect("the end"), 0);
    }

    #[test]
    fn a_broken_connection_is_no_reason_to_give_up() {
        assert!(!Pipe::is_unfit(&std::io::ErrorKind::BrokenPipe.into()));
        assert!(!Pipe::is_unfit(&rustix::io::Errno::CONNRESET.into()));
        assert!(Pipe::open().is_some());
    }
}
