// Starts the client.

import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './app/App';
import { SessionContext } from './app/context';
import { Session } from './state/session';
import './styles/tokens.css';
import './styles/base.css';

const session = new Session();
void session.restore();

const root = document.getElementById('root');
if (root === null) throw new Error('the page has no root element');

createRoot(root).render(
  <StrictMode>
    <SessionContext value={session}>
      <App />
    </SessionContext>
  </StrictMode>,
);
