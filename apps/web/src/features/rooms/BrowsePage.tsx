// Public rooms one could join.

import { useEffect, useState } from 'react';
import { useChat } from '../../app/context';
import { useStore } from '../../app/hooks';
import { navigate, paths } from '../../app/router';
import type { Room } from '../../sdk';
import { joinableRooms } from '../../state/rooms';
import { Button } from '../../ui/Button';
import { Icon } from '../../ui/Icon';
import { Empty, Spinner } from '../../ui/Misc';
import { ConnectionPill } from '../connection/ConnectionPill';
import { PageHeader } from './PageHeader';
import styles from './rooms.module.css';

export function BrowsePage() {
  const chat = useChat();
  const state = useStore(chat.rooms.state);
  const rooms = joinableRooms(state);
  useEffect(() => {
    void chat.loadRooms();
  }, [chat]);
  return (
    <main className={styles.page}>
      <ConnectionPill />
      <PageHeader title="Browse rooms" />
      <div className={styles.scroll}>
        {state.status === 'loading' && <Spinner label="Loading rooms" />}
        {state.status === 'ready' && rooms.length === 0 && (
          <Empty icon="compass" title="You are everywhere already">
            <p>There is no public room that you are not in.</p>
          </Empty>
        )}
        {rooms.length > 0 && <p className={styles.lead}>Public rooms you are not in yet.</p>}
        <ul className={styles.cards}>
          {rooms.map((room) => (
            <JoinRow key={room.id} room={room} />
          ))}
        </ul>
      </div>
    </main>
  );
}

function JoinRow({ room }: { room: Room }) {
  const chat = useChat();
  const [busy, setBusy] = useState(false);
  const join = () => {
    setBusy(true);
    chat
      .joinRoom(room.id)
      .then(() => navigate(paths.room(room.id)))
      .catch((error: unknown) => {
        setBusy(false);
        chat.toasts.failed(error);
      });
  };
  return (
    <li className={styles.card}>
      <span className={styles.cardIcon}>
        <Icon name="hash" />
      </span>
      <span className={styles.cardText}>
        <span className={styles.cardTitle}>{room.title}</span>
        <span className={styles.cardMeta}>/r/{room.id}</span>
      </span>
      <Button size="s" busy={busy} onClick={join} aria-label={`Join ${room.title}`}>
        Join
      </Button>
    </li>
  );
}
