// The frame around everything one sees when signed in: rooms at the side, the chosen page beside them. On a
// phone the two are separate screens.

import { useEffect } from 'react';
import { AdminPage } from '../features/admin/AdminPage';
import { BrowsePage } from '../features/rooms/BrowsePage';
import { RoomPage } from '../features/chat/RoomPage';
import { HomePage } from '../features/rooms/HomePage';
import { Sidebar } from '../features/rooms/Sidebar';
import { SettingsPage } from '../features/settings/SettingsPage';
import { joinedRooms, unreadOf } from '../state/rooms';
import { Button } from '../ui/Button';
import { Empty, ToastList } from '../ui/Misc';
import { useChat } from './context';
import { useSelect } from './hooks';
import { navigate, paths, type Route, useRoute } from './router';
import styles from './shell.module.css';

export function Shell() {
  const chat = useChat();
  const route = useRoute();
  useTitle(route);
  return (
    <div className={styles.shell} data-view={route.name === 'home' ? 'list' : 'page'}>
      <a className="skip-link" href="#main">
        Skip to content
      </a>
      <Sidebar />
      <div id="main" className={styles.page} tabIndex={-1}>
        <Page route={route} />
      </div>
      <ToastList toasts={chat.toasts} />
    </div>
  );
}

function Page({ route }: { route: Route }) {
  if (route.name === 'room') return <RoomPage key={route.id} id={route.id} />;
  if (route.name === 'browse') return <BrowsePage />;
  if (route.name === 'settings') return <SettingsPage tab={route.tab} />;
  if (route.name === 'admin') return <AdminPage tab={route.tab} />;
  if (route.name === 'unknown') {
    return (
      <main className={styles.center}>
        <Empty page icon="compass" title="There is nothing here">
          <p>The address does not lead anywhere.</p>
          <Button onClick={() => navigate(paths.home)}>Go to your rooms</Button>
        </Empty>
      </main>
    );
  }
  return <HomePage />;
}

/** "(3) Design · Stack": the tab tells where one is and how much is new elsewhere. */
function useTitle(route: Route): void {
  const chat = useChat();
  const roomId = route.name === 'room' ? route.id : null;
  const title = useSelect(chat.rooms.state, (state) => (roomId && state.byId.get(roomId)?.title) || null);
  const unread = useSelect(
    chat.rooms.state,
    (state) => joinedRooms(state).filter((room) => unreadOf(room) > 0).length,
  );
  useEffect(() => {
    const place =
      title ??
      { browse: 'Browse rooms', settings: 'Settings', admin: 'Administration' }[route.name as 'browse'];
    document.title = `${unread > 0 ? `(${unread}) ` : ''}${place ? `${place} · ` : ''}Stack`;
    return () => {
      document.title = 'Stack';
    };
  }, [title, unread, route.name]);
}
