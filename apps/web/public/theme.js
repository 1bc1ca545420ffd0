// Runs before the first paint, so that somebody who chose a theme never sees the other one flash by.
try {
  const theme = localStorage.getItem('stack.theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // Without storage the system's theme stands.
}
