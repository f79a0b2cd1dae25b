"""How fast the shop is, beside what the machine could do at best (`script/bench`)."""
