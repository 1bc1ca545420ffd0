// What stands beside the list while no room is chosen.

import { useState } from 'react';
import { useChat } from '../../app/context';
import { useMedia, useStore } from '../../app/hooks';
import { navigate, paths } from '../../app/router';
import { joinedRooms } from '../../state/rooms';
import { Button } from '../../ui/Button';
import { Empty } from '../../ui/Misc';
import { ConnectionPill } from '../connection/ConnectionPill';
import { CreateRoomDialog } from './CreateRoomDialog';
import styles from './rooms.module.css';

export function HomePage() {
  const chat = useChat();
  const state = useStore(chat.rooms.state);
  const phone = useMedia('(max-width: 719px)');
  const [creating, setCreating] = useState(false);
  if (phone) return null;
  const fresh = state.status === 'ready' && joinedRooms(state).length === 0;
  return (
    <main className={styles.page}>
      <ConnectionPill />
      <Empty page icon="hash" title={fresh ? 'Start with a room' : 'Choose a room'}>
        <p>
          {fresh
            ? 'A room keeps everything said in it, in order, for everyone in it.'
            : 'Your rooms are on the left. New messages show there as they arrive.'}
        </p>
        <div className={styles.row}>
          <Button variant={fresh ? 'primary' : 'secondary'} onClick={() => setCreating(true)}>
            New room
          </Button>
          <Button onClick={() => navigate(paths.browse)}>Browse rooms</Button>
        </div>
      </Empty>
      {creating && <CreateRoomDialog onClose={() => setCreating(false)} />}
    </main>
  );
}
