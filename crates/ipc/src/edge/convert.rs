//! Between the plain types and the messages.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use capnp::Error;
use stack_proto::edge_capnp::{
    down, header, http_request, http_response, limits, log_page, room_head, up,
};
use stack_types::{Frames, RoomId, Seq};

use super::{
    Begin, Down, EdgeLimits, Ending, HttpRequest, HttpResponse, LogPage, Reattach, RoomHead,
    SocketId, Up,
};

/// How many items one call carries at most.
pub(super) const ITEMS: usize = 1024;
/// About how many bytes one call carries at most, unless a single item has more.
pub(super) const BATCH_BYTES: usize = 256 * 1024;

fn text(text: capnp::text::Reader<'_>) -> Result<&str, Error> {
    Ok(text.to_str()?)
}

fn bytes(data: capnp::data::Reader<'_>) -> Bytes {
    Bytes::copy_from_slice(data)
}

fn count(len: usize) -> Result<u32, Error> {
    u32::try_from(len).map_err(|_| Error::failed("a list is too long".into()))
}

pub(super) fn room_of(room: capnp::text::Reader<'_>) -> Result<RoomId, Error> {
    text(room)?
        .parse()
        .map_err(|_| Error::failed("this is no room id".into()))
}

/// About what an item takes.
pub(super) fn up_bytes(item: &Up) -> usize {
    64 + match item {
        Up::Text(text) => text.len(),
        Up::Binary(bytes) => bytes.len(),
        Up::Reattach(reattach) => reattach.standing.len() + reattach.rooms.len() * 96,
        Up::Ping | Up::Pong | Up::Ended(_) | Up::Took(_) => 0,
    }
}

/// About what an item takes.
pub(super) fn down_bytes(item: &Down) -> usize {
    64 + match item {
        Down::Write(bytes) | Down::Standing(bytes) => bytes.len(),
        Down::Begin(begin) => 128 + begin.answer.len() + begin.gap.len(),
        Down::End { last, .. } => 64 + last.as_ref().map_or(0, Bytes::len),
        Down::Took(_) | Down::Close { .. } => 32,
    }
}

/// How many of the items go into one call.
pub(super) fn batch<T>(items: &[T], size: impl Fn(&T) -> usize) -> usize {
    let mut bytes = 0;
    let fits = items.iter().take(ITEMS).take_while(|item| {
        bytes += size(item);
        bytes <= BATCH_BYTES
    });
    fits.count().max(1)
}

pub(super) fn fill_up(socket: SocketId, item: &Up, mut to: up::Builder<'_>) -> Result<(), Error> {
    to.set_socket(socket);
    match item {
        Up::Text(text) => to.set_text(&text[..]),
        Up::Binary(bytes) => to.set_binary(bytes),
        Up::Ping => to.set_ping(()),
        Up::Pong => to.set_pong(()),
        Up::Ended(ending) => to.set_ended(match ending {
            Ending::Gone => up::Ending::Gone,
            Ending::TooLong => up::Ending::TooLong,
            Ending::NotUtf8 => up::Ending::NotUtf8,
            Ending::NotWebSocket => up::Ending::NotWebSocket,
        }),
        Up::Took(took) => to.set_took(*took),
        Up::Reattach(reattach) => {
            let mut to = to.init_reattach();
            to.set_standing(&reattach.standing);
            to.set_peer(&reattach.peer.to_string()[..]);
            to.set_subprotocol(reattach.subprotocol.as_deref().unwrap_or(""));
            let mut rooms = to.init_rooms(count(reattach.rooms.len())?);
            for ((room, after), at) in reattach.rooms.iter().zip(0..) {
                let mut cursor = rooms.reborrow().get(at);
                cursor.set_room(room.as_str());
                cursor.set_after(after.0);
            }
        }
    }
    Ok(())
}

pub(super) fn up_of(from: up::Reader<'_>) -> Result<(SocketId, Up), Error> {
    let item = match from.which()? {
        up::Text(said) => Up::Text(text(said?)?.to_owned()),
        up::Binary(said) => Up::Binary(bytes(said?)),
        up::Ping(()) => Up::Ping,
        up::Pong(()) => Up::Pong,
        up::Ended(ending) => Up::Ended(match ending? {
            up::Ending::Gone => Ending::Gone,
            up::Ending::TooLong => Ending::TooLong,
            up::Ending::NotUtf8 => Ending::NotUtf8,
            up::Ending::NotWebSocket => Ending::NotWebSocket,
        }),
        up::Took(took) => Up::Took(took),
        up::Reattach(from) => {
            let from = from?;
            let subprotocol = text(from.get_subprotocol()?)?;
            let peer: IpAddr = text(from.get_peer()?)?
                .parse()
                .map_err(|_| Error::failed("this is no address".into()))?;
            let rooms = from.get_rooms()?.iter().map(|cursor| {
                let room = room_of(cursor.get_room()?)?;
                Ok((room, Seq(cursor.get_after())))
            });
            Up::Reattach(Reattach {
                standing: bytes(from.get_standing()?),
                subprotocol: (!subprotocol.is_empty()).then(|| subprotocol.to_owned()),
                rooms: rooms.collect::<Result<_, Error>>()?,
                peer,
            })
        }
    };
    Ok((from.get_socket(), item))
}

pub(super) fn fill_down(socket: SocketId, item: &Down, mut to: down::Builder<'_>) {
    to.set_socket(socket);
    match item {
        Down::Write(bytes) => to.set_write(bytes),
        Down::Begin(begin) => {
            let mut to = to.init_begin();
            to.set_room(begin.room.as_str());
            to.set_after(begin.after.0);
            to.set_exact(begin.exact);
            to.set_answer(&begin.answer);
            to.set_gap(&begin.gap);
            to.set_head(begin.at.head.0);
            to.set_first(begin.at.first.0);
        }
        Down::End { room, last } => {
            let mut to = to.init_end();
            to.set_room(room.as_str());
            to.set_last(last.as_deref().unwrap_or(&[]));
        }
        Down::Took(took) => to.set_took(*took),
        Down::Standing(standing) => to.set_standing(standing),
        Down::Close { code, reason } => {
            let mut to = to.init_close();
            to.set_code(*code);
            to.set_reason(&reason[..]);
        }
    }
}

pub(super) fn down_of(from: down::Reader<'_>) -> Result<(SocketId, Down), Error> {
    let item = match from.which()? {
        down::Write(frames) => Down::Write(bytes(frames?)),
        down::Begin(from) => {
            let from = from?;
            Down::Begin(Begin {
                room: room_of(from.get_room()?)?,
                after: Seq(from.get_after()),
                exact: from.get_exact(),
                answer: bytes(from.get_answer()?),
                gap: bytes(from.get_gap()?),
                at: RoomHead {
                    head: Seq(from.get_head()),
                    first: Seq(from.get_first()),
                    gone: false,
                },
            })
        }
        down::End(from) => {
            let from = from?;
            let last = bytes(from.get_last()?);
            Down::End {
                room: room_of(from.get_room()?)?,
                last: (!last.is_empty()).then_some(last),
            }
        }
        down::Took(took) => Down::Took(took),
        down::Standing(standing) => Down::Standing(bytes(standing?)),
        down::Close(from) => {
            let from = from?;
            Down::Close {
                code: from.get_code(),
                reason: text(from.get_reason()?)?.to_owned(),
            }
        }
    };
    Ok((from.get_socket(), item))
}

fn fill_headers(
    headers: &[(String, Bytes)],
    mut to: capnp::struct_list::Builder<'_, header::Owned>,
) {
    for ((name, value), at) in headers.iter().zip(0..) {
        let mut header = to.reborrow().get(at);
        header.set_name(&name[..]);
        header.set_value(value);
    }
}

fn headers_of(
    from: capnp::struct_list::Reader<'_, header::Owned>,
) -> Result<Vec<(String, Bytes)>, Error> {
    let read = |header: header::Reader<'_>| {
        let name = text(header.get_name()?)?.to_owned();
        Ok((name, bytes(header.get_value()?)))
    };
    from.iter().map(read).collect()
}

pub(super) fn fill_request(
    request: &HttpRequest,
    mut to: http_request::Builder<'_>,
) -> Result<(), Error> {
    to.set_peer(&request.peer.to_string()[..]);
    to.set_method(&request.method[..]);
    to.set_target(&request.target[..]);
    to.set_body(&request.body);
    to.set_socket(request.socket.unwrap_or(0));
    to.set_more(request.more.is_some());
    let headers = to.init_headers(count(request.headers.len())?);
    fill_headers(&request.headers, headers);
    Ok(())
}

pub(super) fn request_of(from: http_request::Reader<'_>) -> Result<HttpRequest, Error> {
    let peer: SocketAddr = text(from.get_peer()?)?
        .parse()
        .map_err(|_| Error::failed("this is no address".into()))?;
    Ok(HttpRequest {
        peer,
        method: text(from.get_method()?)?.to_owned(),
        target: text(from.get_target()?)?.to_owned(),
        headers: headers_of(from.get_headers()?)?,
        body: bytes(from.get_body()?),
        more: None,
        socket: Some(from.get_socket()).filter(|socket| *socket != 0),
    })
}

pub(super) fn fill_response(
    response: &HttpResponse,
    mut to: http_response::Builder<'_>,
) -> Result<(), Error> {
    to.set_status(response.status);
    to.set_body(&response.body);
    to.set_more(response.rest.is_some());
    let headers = to.init_headers(count(response.headers.len())?);
    fill_headers(&response.headers, headers);
    Ok(())
}

/// The answer, and whether there is more of it.
pub(super) fn response_of(from: http_response::Reader<'_>) -> Result<(HttpResponse, bool), Error> {
    let response = HttpResponse {
        status: from.get_status(),
        headers: headers_of(from.get_headers()?)?,
        body: bytes(from.get_body()?),
        rest: None,
    };
    Ok((response, from.get_more()))
}

pub(super) fn fill_head(at: &RoomHead, mut to: room_head::Builder<'_>) {
    to.set_head(at.head.0);
    to.set_first(at.first.0);
    to.set_gone(at.gone);
}

pub(super) fn head_of(from: room_head::Reader<'_>) -> RoomHead {
    RoomHead {
        head: Seq(from.get_head()),
        first: Seq(from.get_first()),
        gone: from.get_gone(),
    }
}

pub(super) fn fill_page(page: &LogPage, mut to: log_page::Builder<'_>) -> Result<(), Error> {
    to.set_from(page.from.0);
    to.set_frames(page.frames.wire());
    let mut ends = to.reborrow().init_ends(count(page.frames.len())?);
    for (end, at) in page.frames.ends().zip(0..) {
        ends.set(at, end);
    }
    fill_head(&page.at, to.init_at());
    Ok(())
}

pub(super) fn page_of(from: log_page::Reader<'_>) -> Result<LogPage, Error> {
    let frames = Frames::from_wire(bytes(from.get_frames()?), from.get_ends()?.iter())
        .ok_or_else(|| Error::failed("a page's frames do not end where it says".into()))?;
    Ok(LogPage {
        from: Seq(from.get_from()),
        frames,
        at: head_of(from.get_at()?),
    })
}

pub(super) fn fill_limits(limits: &EdgeLimits, mut to: limits::Builder<'_>) {
    let told = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    to.set_frame_bytes(told(limits.frame_bytes));
    to.set_http_body_bytes(told(limits.http_body_bytes));
    let timeout = u32::try_from(limits.http_timeout.as_millis());
    to.set_http_timeout_ms(timeout.unwrap_or(u32::MAX));
}

pub(super) fn limits_of(from: limits::Reader<'_>) -> EdgeLimits {
    EdgeLimits {
        frame_bytes: from.get_frame_bytes() as usize,
        http_body_bytes: from.get_http_body_bytes() as usize,
        http_timeout: Duration::from_millis(from.get_http_timeout_ms().into()),
    }
}

#[cfg(test)]
mod tests {
    use capnp::message::Builder;
    use stack_types::FramesBuilder;

    use super::*;

    #[test]
    fn what_goes_up_comes_as_it_went() {
        let reattach = Reattach {
            standing: Bytes::from_static(b"sealed"),
            subprotocol: Some("stack.v1.json".into()),
            rooms: vec![("general".parse().unwrap(), Seq(7))],
            peer: "2001:db8::1".parse().unwrap(),
        };
        let items = [
            Up::Text("{}".into()),
            Up::Binary(Bytes::from_static(&[0, 1])),
            Up::Ping,
            Up::Pong,
            Up::Ended(Ending::Gone),
            Up::Ended(Ending::TooLong),
            Up::Ended(Ending::NotUtf8),
            Up::Ended(Ending::NotWebSocket),
            Up::Took(9),
            Up::Reattach(reattach.clone()),
            Up::Reattach(Reattach {
                standing: Bytes::new(),
                subprotocol: None,
                rooms: Vec::new(),
                ..reattach
            }),
        ];
        for item in items {
            let mut message = Builder::new_default();
            fill_up(3, &item, message.init_root()).unwrap();
            let read = up_of(message.get_root_as_reader().unwrap()).unwrap();
            assert_eq!(read, (3, item));
        }
    }

    #[test]
    fn what_goes_down_comes_as_it_went() {
        let room: RoomId = "general".parse().unwrap();
        let begin = Begin {
            room: room.clone(),
            after: Seq(4),
            exact: true,
            answer: Bytes::from_static(b"answer"),
            gap: Bytes::new(),
            at: RoomHead {
                head: Seq(9),
                first: Seq(2),
                gone: false,
            },
        };
        let items = [
            Down::Write(Bytes::from_static(b"frames")),
            Down::Begin(begin),
            Down::End {
                room: room.clone(),
                last: None,
            },
            Down::End {
                room,
                last: Some(Bytes::from_static(b"last")),
            },
            Down::Took(1),
            Down::Standing(Bytes::from_static(b"sealed")),
            Down::Close {
                code: 4001,
                reason: "over".into(),
            },
        ];
        for item in items {
            let mut message = Builder::new_default();
            fill_down(3, &item, message.init_root());
            let read = down_of(message.get_root_as_reader().unwrap()).unwrap();
            assert_eq!(read, (3, item));
        }
    }

    #[test]
    fn a_page_whose_frames_do_not_fit_is_refused() {
        let mut frames = FramesBuilder::default();
        frames.push(b"{}");
        let page = LogPage {
            from: Seq(1),
            frames: frames.finish(),
            at: RoomHead::default(),
        };
        let mut message = Builder::new_default();
        fill_page(&page, message.init_root()).unwrap();
        let read = page_of(message.get_root_as_reader().unwrap()).unwrap();
        assert_eq!(read, page);
        let mut root: log_page::Builder<'_> = message.get_root().unwrap();
        root.set_frames(b"\x81");
        assert!(page_of(message.get_root_as_reader().unwrap()).is_err());
    }

    #[test]
    fn a_call_carries_what_fits_and_one_item_at_least() {
        assert_eq!(batch(&[BATCH_BYTES + 1, 1], |size| *size), 1);
        assert_eq!(batch(&[BATCH_BYTES / 2; 5], |size| *size), 2);
        assert_eq!(batch(&[0; ITEMS + 5], |size| *size), ITEMS);
    }
}
