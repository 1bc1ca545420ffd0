// The list of rooms with what is new in them, the ways to more rooms, and oneself.

import { useRef, useState } from 'react';
import { useChat } from '../../app/context';
import { useMedia, useStore } from '../../app/hooks';
import { Link, navigate, paths, useRoute } from '../../app/router';
import { joinedRooms, type ListedRoom, unreadOf } from '../../state/rooms';
import { Button, IconButton } from '../../ui/Button';
import { Icon, Logo } from '../../ui/Icon';
import { Empty, Spinner } from '../../ui/Misc';
import { ConnectionPill } from '../connection/ConnectionPill';
import { UserMenu } from '../settings/UserMenu';
import { CreateRoomDialog } from './CreateRoomDialog';
import styles from './sidebar.module.css';

/** Below this many rooms a filter is more clutter than help. */
const FILTER_FROM = 8;

export function Sidebar() {
  const chat = useChat();
  const state = useStore(chat.rooms.state);
  const route = useRoute();
  const phone = useMedia('(max-width: 719px)');
  const [creating, setCreating] = useState(false);
  const [filter, setFilter] = useState('');
  const list = useRef<HTMLUListElement>(null);
  const rooms = joinedRooms(state);
  const wanted = filter.trim().toLocaleLowerCase();
  const shown = rooms.filter(
    (room) => room.title.toLocaleLowerCase().includes(wanted) || room.id.includes(wanted),
  );
  return (
    <aside className={`sidebar ${styles.sidebar}`} aria-label="Rooms">
      {phone && route.name === 'home' && <ConnectionPill />}
      <header className={styles.header}>
        <Link to={paths.home} className={styles.brand}>
          <Logo size={28} />
          <span>Stack</span>
        </Link>
        <IconButton icon="plus" label="New room" onClick={() => setCreating(true)} />
      </header>
      {rooms.length >= FILTER_FROM && (
        <div className={styles.filter}>
          <Icon name="search" size={16} />
          <input
            type="search"
            aria-label="Filter rooms"
            placeholder="Filter rooms"
            value={filter}
            onChange={(event) => setFilter(event.target.value)}
            onKeyDown={(event) => {
              if (event.key === 'Escape') setFilter('');
              if (event.key === 'Enter' || event.key === 'ArrowDown')
                list.current?.querySelector('a')?.focus();
            }}
          />
        </div>
      )}
      <nav
        className={styles.nav}
        aria-label="Your rooms"
        data-empty={(phone && state.status === 'ready' && rooms.length === 0) || undefined}
      >
        {state.status === 'loading' && <Spinner label="Loading rooms" />}
        {state.status === 'failed' && (
          <div className={styles.note}>
            <p>Your rooms could not be loaded.</p>
            <Button size="s" onClick={() => void chat.loadRooms()}>
              Try again
            </Button>
          </div>
        )}
        {state.status === 'ready' && rooms.length === 0 && !phone && (
          <p className={styles.note}>You are in no room yet. Join one, or make your own.</p>
        )}
        {state.status === 'ready' && rooms.length === 0 && phone && (
          <Empty icon="hash" title="Start with a room">
            <p>A room keeps everything said in it, in order, for everyone in it.</p>
            <Button variant="primary" onClick={() => setCreating(true)}>
              Make a room
            </Button>
            <Button onClick={() => navigate(paths.browse)}>Find one to join</Button>
          </Empty>
        )}
        <ul ref={list} className={styles.rooms}>
          {shown.map((room) => (
            <RoomLink key={room.id} room={room} active={route.name === 'room' && route.id === room.id} />
          ))}
        </ul>
        {state.status === 'ready' && !(phone && rooms.length === 0) && (
          <Link
            to={paths.browse}
            className={`${styles.room} ${styles.browse}`}
            aria-current={route.name === 'browse' ? 'page' : undefined}
          >
            <Icon name="compass" size={18} />
            <span className={styles.name}>Browse rooms</span>
          </Link>
        )}
      </nav>
      <UserMenu />
      {creating && <CreateRoomDialog onClose={() => setCreating(false)} />}
    </aside>
  );
}

function RoomLink({ room, active }: { room: ListedRoom; active: boolean }) {
  const unread = unreadOf(room);
  return (
    <li>
      <Link
        to={paths.room(room.id)}
        className={styles.room}
        data-unread={unread > 0 || undefined}
        aria-current={active ? 'page' : undefined}
      >
        <Icon name={room.settings.public ? 'hash' : 'lock'} size={18} />
        <span className={styles.name}>{room.title}</span>
        {unread > 0 && (
          <span className={styles.badge} data-testid="unread">
            {unread > 99 ? '99+' : unread}
            <span className="visually-hidden"> unread</span>
          </span>
        )}
      </Link>
    </li>
  );
}
