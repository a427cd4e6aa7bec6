export function Logo() {
  return (
    <span class="logo">
      <svg viewBox="0 0 32 32" width="28" height="28" aria-hidden="true">
        <rect width="32" height="32" rx="8" fill="var(--accent)" />
        <g fill="var(--on-accent)">
          <rect x="6" y="13" width="3" height="6" rx="1.5" />
          <rect x="11.5" y="8" width="3" height="16" rx="1.5" />
          <rect x="17" y="11" width="3" height="10" rx="1.5" />
          <rect x="22.5" y="5" width="3" height="22" rx="1.5" />
        </g>
      </svg>
      voxdex
    </span>
  );
}
