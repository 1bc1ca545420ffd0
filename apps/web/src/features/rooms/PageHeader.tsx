// The bar on top of a page, with the way back to the rooms on a phone.

import type { ReactNode } from 'react';
import { Link, paths } from '../../app/router';
import { Icon } from '../../ui/Icon';
import styles from './rooms.module.css';

export function PageHeader({ title, children }: { title: ReactNode; children?: ReactNode }) {
  return (
    <header className={styles.bar}>
      <BackLink />
      <h1 className={styles.barTitle}>{title}</h1>
      {children}
    </header>
  );
}

export function BackLink() {
  return (
    <Link to={paths.home} className={styles.back} aria-label="Back to rooms">
      <Icon name="back" size={24} />
    </Link>
  );
}
