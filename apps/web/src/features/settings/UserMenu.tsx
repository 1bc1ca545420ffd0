// Oneself at the foot of the room list: status, theme, settings, the way out.

import { useCallback, useRef, useState } from 'react';
import { useChat, useSession } from '../../app/context';
import { useStore } from '../../app/hooks';
import { Link, paths } from '../../app/router';
import { setTheme, type Theme, theme } from '../../app/theme';
import { Avatar } from '../../ui/Avatar';
import { Icon, type IconName } from '../../ui/Icon';
import { Popover } from '../../ui/Popover';
import popover from '../../ui/popover.module.css';
import styles from './userMenu.module.css';

const THEMES: { value: Theme; label: string; icon: IconName }[] = [
  { value: 'light', label: 'Light', icon: 'sun' },
  { value: 'dark', label: 'Dark', icon: 'moon' },
  { value: 'system', label: 'As the system', icon: 'monitor' },
];

export function UserMenu() {
  const chat = useChat();
  const session = useSession();
  const me = useStore(chat.me);
  const open = useStore(chat.connection).status === 'open';
  const chosen = useStore(theme);
  const [shown, setShown] = useState(false);
  const anchor = useRef<HTMLButtonElement>(null);
  const close = useCallback(() => setShown(false), []);
  return (
    <div className={styles.bar}>
      <button
        ref={anchor}
        type="button"
        className={styles.me}
        aria-haspopup="menu"
        aria-expanded={shown}
        aria-label={`${me.display_name}, account menu`}
        onClick={() => setShown(!shown)}
      >
        <Avatar id={me.id} name={me.display_name} size="s" status={open ? 'online' : 'offline'} />
        <span className={styles.text}>
          <span className={styles.name}>{me.display_name}</span>
          <span className={styles.handle}>@{me.username}</span>
        </span>
        <Icon name="more" size={18} />
      </button>
      {shown && (
        <Popover anchor={anchor} role="menu" label="Account" align="start" onClose={close}>
          <Link to={paths.settings} role="menuitem" className={popover.item} onClick={close}>
            <Icon name="user" size={18} />
            Profile
          </Link>
          <Link to={paths.security} role="menuitem" className={popover.item} onClick={close}>
            <Icon name="key" size={18} />
            Security
          </Link>
          <Link to={paths.sessions} role="menuitem" className={popover.item} onClick={close}>
            <Icon name="monitor" size={18} />
            Devices
          </Link>
          {me.role === 'admin' && (
            <Link to={paths.admin} role="menuitem" className={popover.item} onClick={close}>
              <Icon name="shield" size={18} />
              Administration
            </Link>
          )}
          <div className={popover.divider} />
          {THEMES.map(({ value, label, icon }) => (
            <button
              key={value}
              type="button"
              role="menuitemradio"
              aria-checked={chosen === value}
              className={popover.item}
              onClick={() => setTheme(value)}
            >
              <Icon name={icon} size={18} />
              <span className={styles.grow}>{label}</span>
              {chosen === value && <Icon name="check" size={18} />}
            </button>
          ))}
          <div className={popover.divider} />
          <button
            type="button"
            role="menuitem"
            className={popover.item}
            onClick={() => void session.signOut().catch(chat.toasts.failed)}
          >
            <Icon name="signout" size={18} />
            Sign out
          </button>
        </Popover>
      )}
    </div>
  );
}
