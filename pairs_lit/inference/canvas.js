/* Draws on a canvas, with a pen as thick as MNIST's strokes are for their box, and sends it after each stroke. */
const canvas = element.querySelector('canvas'), pen = canvas.getContext('2d'), mark = element.querySelector('.pen');
const input = element.querySelector('input');
Object.assign(pen, {lineWidth: 22, lineCap: 'round', lineJoin: 'round', strokeStyle: '#000'});
const place = event => [event.offsetX * 280 / canvas.clientWidth, event.offsetY * 280 / canvas.clientHeight];
const send = value => { props.value = value; trigger('change'); };
const sendDrawing = () => send(canvas.toDataURL('image/png'));
let isUploaded = false;
const wipe = () => { pen.clearRect(0, 0, 280, 280); isUploaded = false; input.value = ''; };
const begin = () => { if (isUploaded) wipe(); };
const line = (from, to) => { pen.beginPath(); pen.moveTo(...from); pen.lineTo(...to); pen.stroke(); };
const clear = () => { wipe(); lift(); send(''); };

let isDown = false, last = null;
canvas.addEventListener('pointerdown', event => {
  event.preventDefault();
  canvas.focus({focusVisible: false});
  canvas.setPointerCapture(event.pointerId);
  begin();
  isDown = true;
  last = place(event);
  line(last, last);
});
canvas.addEventListener('pointermove', event => {
  if (!isDown) return;
  line(last, place(event));
  last = place(event);
});
for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, () => {
  if (!isDown) return;
  isDown = false;
  sendDrawing();
});

let at = [140, 140], isPenDown = false, later = null;
const held = new Set();
const steps = {ArrowLeft: [-10, 0], ArrowRight: [10, 0], ArrowUp: [0, -10], ArrowDown: [0, 10]};
const show = () => {
  mark.style.left = `${at[0] / 2.8}%`;
  mark.style.top = `${at[1] / 2.8}%`;
  mark.classList.toggle('down', isPenDown);
};
const soon = () => { clearTimeout(later); later = setTimeout(sendDrawing, 400); };
const lift = () => { isPenDown = false; clearTimeout(later); show(); };
const step = () => {
  const moves = [...held].map(key => steps[key]);
  const inside = value => Math.min(274, Math.max(6, value));
  const next = [0, 1].map(axis => inside(at[axis] + moves.reduce((sum, move) => sum + move[axis], 0)));
  if (isPenDown) { line(at, next); soon(); }
  at = next;
  show();
};
canvas.addEventListener('keydown', event => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key in steps) { held.add(event.key); step(); }
  else if (event.key === ' ') {
    if (isPenDown) { lift(); sendDrawing(); }
    else { begin(); isPenDown = true; line(at, at); show(); }
  }
  else if (event.key === 'Delete' || event.key === 'Backspace') clear();
  else return;
  event.preventDefault();
});
canvas.addEventListener('keyup', event => held.delete(event.key));
canvas.addEventListener('blur', () => {
  held.clear();
  if (isPenDown) { lift(); sendDrawing(); }
});
show();

const showUpload = file => {
  const image = new Image(), url = URL.createObjectURL(file);
  image.onload = () => {
    const scale = 280 / Math.max(image.naturalWidth, image.naturalHeight);
    const [width, height] = [image.naturalWidth * scale, image.naturalHeight * scale];
    pen.drawImage(image, (280 - width) / 2, (280 - height) / 2, width, height);
    URL.revokeObjectURL(url);
  };
  image.onerror = () => URL.revokeObjectURL(url);
  image.src = url;
};
input.addEventListener('change', () => {
  const file = input.files[0];
  if (!file) return;
  lift();
  pen.clearRect(0, 0, 280, 280);
  isUploaded = true;
  showUpload(file);
  if (file.size > MOST_BYTES) { send(`file;name=${encodeURIComponent(file.name)},TOO_LARGE`); return; }
  const reader = new FileReader();
  reader.onload = () => send(`file;name=${encodeURIComponent(file.name)},${reader.result.split(',')[1] || ''}`);
  reader.onerror = () => send(`file;name=${encodeURIComponent(file.name)},`);
  reader.readAsDataURL(file);
});
element.querySelector('button').addEventListener('click', clear);
