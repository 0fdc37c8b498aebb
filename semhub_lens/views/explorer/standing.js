// The page: what its data block holds, drawn where the page has a place for it.

import { mount } from "./explorer.js";

const place = document.getElementById("explorer");
mount(place, JSON.parse(document.getElementById("data").textContent), { address: true, view: place.dataset.view });
