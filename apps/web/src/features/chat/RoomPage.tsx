// What a room's address shows: the room, the door to it, or that there is none.

import { useEffect, useState } from 'react';
import { useChat } from '../../app/context';
import { useSelect, useStore } from '../../app/hooks';
import { navigate, paths } from '../../app/router';
import { type Room, StackError } from '../../sdk';
import { Button } from '../../ui/Button';
import { Empty, Spinner } from '../../ui/Misc';
import { PageHeader } from '../rooms/PageHeader';
import rooms from '../rooms/rooms.module.css';
import { ChatView } from './ChatView';

export function RoomPage({ id }: { id: string }) {
  const chat = useChat();
  const { status } = useStore(chat.rooms.state);
  const room = useSelect(chat.rooms.state, (state) => state.byId.get(id));
  const [failure, setFailure] = useState<'not_found' | 'other' | null>(null);
  const missing = room === undefined && status !== 'loading';

  useEffect(() => {
    if (!missing) return;
    setFailure(null);
    chat.rooms.reload(id).catch((error: unknown) => {
      setFailure(error instanceof StackError && error.code === 'not_found' ? 'not_found' : 'other');
    });
  }, [chat, id, missing]);

  if (room !== undefined) {
    return room.role !== null || room.settings.allow_guests ? <ChatView room={room} /> : <Door room={room} />;
  }
  return (
    <main className={rooms.page}>
      {failure === null && <Spinner label="Loading room" />}
      {failure === 'not_found' && (
        <>
          <PageHeader title="No such room" />
          <Empty icon="lock" title="This room is not open to you">
            <p>It does not exist, or it is private and you are not in it.</p>
            <Button onClick={() => navigate(paths.browse)}>Browse rooms</Button>
          </Empty>
        </>
      )}
      {failure === 'other' && (
        <Empty page icon="alert" title="The room could not be loaded">
          <Button onClick={() => void chat.loadRooms()}>Try again</Button>
        </Empty>
      )}
    </main>
  );
}

function Door({ room }: { room: Room }) {
  const chat = useChat();
  const [busy, setBusy] = useState(false);
  const join = () => {
    setBusy(true);
    chat.joinRoom(room.id).catch((error: unknown) => {
      setBusy(false);
      chat.toasts.failed(error);
    });
  };
  return (
    <main className={rooms.page}>
      <PageHeader title={room.title} />
      <Empty icon="hash" title={`Join ${room.title}?`}>
        <p>The room is public. Join it to read what was said and to take part.</p>
        <div className={rooms.row}>
          <Button variant="primary" busy={busy} onClick={join}>
            Join room
          </Button>
        </div>
      </Empty>
    </main>
  );
}
