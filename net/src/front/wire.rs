//! The bytes of one connection: a socket as it is, or with TLS over it. The socket is polled by one reader and one
//! writer; with TLS each keeps to its direction, and what reading gives to write is the writer's to send.

use std::future::Future as _;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use futures_io::{AsyncRead as _, AsyncWrite as _};
use glommio::net::TcpStream;
use rustls::Connection;

/// Plain bytes that TLS takes before they must be on their way: some full records.
const PLAIN_SIZE_BYTES_MAX: usize = 64 << 10;

/// A connection's bytes.
pub(super) enum Wire {
    /// As they are.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<Tls>),
}

/// A socket with TLS over it.
pub(super) struct Tls {
    socket: TcpStream,
    session: Connection,
}

impl Wire {
    /// The socket underneath.
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.socket,
        }
    }

    /// Reads plain bytes; 0 is the end.
    #[inline]
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, room),
            Self::Tls(tls) => tls.poll_read(context, room),
        }
    }

    /// Takes some of the plain bytes. With TLS up to [`PLAIN_SIZE_BYTES_MAX`] of what was taken may still wait:
    /// [`Wire::poll_flush`].
    #[inline]
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tls(tls) => tls.poll_write(context, bytes),
        }
    }

    /// Sends what was taken and still waits.
    #[inline]
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.poll_flush(context),
        }
    }

    /// Whether reading has left something to send.
    pub(super) fn has_answer(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.session.wants_write())
    }

    /// Says that no more will come, as far as the socket takes it at once, and shuts the socket down.
    pub(super) fn end(&mut self, how: Shutdown) {
        let mut context = Context::from_waker(Waker::noop());
        if let Self::Tls(tls) = self {
            tls.session.send_close_notify();
            // Whoever is gone does not hear it.
            let _ = tls.poll_flush(&mut context);
        }
        let shutdown = pin!(self.socket().shutdown(how));
        // It is a plain system call behind an async face; an error means that the other side was faster.
        let _ = shutdown.poll(&mut context);
    }
}

impl Tls {
    /// A session over `socket` that has not begun.
    pub(super) fn new(socket: TcpStream, mut session: Connection) -> Self {
        session.set_buffer_limit(Some(PLAIN_SIZE_BYTES_MAX));
        Self { socket, session }
    }

    /// The certificate that the other side has shown, as DER.
    pub(super) fn peer_certificate(&self) -> Option<&[u8]> {
        self.session.peer_certificates()?.first().map(AsRef::as_ref)
    }

    /// Carries the handshake to its end. Nobody else polls the socket meanwhile.
    pub(super) fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.is_handshaking() {
            if self.session.wants_write() {
                ready!(self.poll_flush(context))?;
            } else {
                ready!(self.poll_fill(context))?;
            }
        }
        self.poll_flush(context)
    }

    fn poll_read(&mut self, context: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut filled = 0;
        loop {
            match self.session.reader().read(&mut room[filled..]) {
                Ok(0) => return Poll::Ready(Ok(filled)),
                Ok(count) => {
                    filled += count;
                    if filled == room.len() {
                        return Poll::Ready(Ok(filled));
                    }
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // What came before a torn end is still good.
                Err(_) if filled > 0 => return Poll::Ready(Ok(filled)),
                Err(error) => return Poll::Ready(Err(error)),
            }
            match self.poll_fill(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Pending if filled == 0 => return Poll::Pending,
                Poll::Ready(Err(error)) if filled == 0 => return Poll::Ready(Err(error)),
                // An error comes again at the next call.
                _ => return Poll::Ready(Ok(filled)),
            }
        }
    }

    /// Reads once from the socket and decrypts.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut half = Half { socket: &mut self.socket, context };
        match self.session.read_tls(&mut half) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
            Ok(0) if self.session.is_handshaking() => {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            Ok(_) => {}
        }
        let processed = self.session.process_new_packets();
        Poll::Ready(match processed {
            Ok(_) => Ok(()),
            Err(error) => {
                // The alert that says why, if the socket takes it at once.
                let _ = self.poll_flush(context);
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        })
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(context))?;
        let count = self.session.writer().write(bytes)?;
        // What does not go out now goes out at the next write or flush.
        let _ = self.poll_flush(context)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut half = Half { socket: &mut self.socket, context };
            match self.session.write_tls(&mut half) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The socket as rustls wants it: what would wait is an error, and the task is woken when it makes sense again.
struct Half<'a, 'c> {
    socket: &'a mut TcpStream,
    context: &'a mut Context<'c>,
}

impl io::Read for Half<'_, '_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        answer(Pin::new(&mut *self.socket).poll_read(self.context, room))
    }
}

impl io::Write for Half<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        answer(Pin::new(&mut *self.socket).poll_write(self.context, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn answer(polled: Poll<io::Result<usize>>) -> io::Result<usize> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}
