// Buttons that copy: the new code of a diff, and the command that replays a session.
'use strict';
for (const [where, what] of [['.code', '.listing pre'], ['.command', 'code']]) {
    for (const place of document.querySelectorAll(where)) {
        const text = Array.from(place.querySelectorAll(what), part => {
            const copy = part.cloneNode(true);
            copy.querySelectorAll('del').forEach(gone => gone.remove());
            return copy.textContent;
        }).join('');
        if (!text) continue; // Nothing is new.
        const button = document.createElement('button');
        button.type = 'button';
        button.className = 'copy';
        button.textContent = 'Copy';
        button.setAttribute('aria-live', 'polite');
        button.addEventListener('click', async () => {
            try {
                await navigator.clipboard.writeText(text);
                button.textContent = 'Copied';
            } catch {
                button.textContent = 'Not allowed here';
            }
            setTimeout(() => button.textContent = 'Copy', 2000);
        });
        (place.querySelector('figcaption') ?? place).append(button);
    }
}
