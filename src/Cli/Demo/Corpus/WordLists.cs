namespace Engine.Cli.Demo;

/// <summary>
/// The real words the demo's tables are made of, one string of space-separated words for each kind. Which pool a
/// word belongs to is not written here: <see cref="WordPools.PoolOf(string)"/> decides it from the spelling alone.
/// </summary>
internal static class WordLists
{
    /// <summary>Names of tables: plural nouns.</summary>
    public const string Tables = """
        films books teams matches players albums songs artists airports flights hotels museums bridges rivers lakes
        mountains islands stadiums schools colleges companies banks shops markets farms gardens castles temples ships
        submarines satellites rockets planets comets telescopes engines tractors bicycles trains trams buses ferries
        tunnels dams harbours canals glaciers volcanoes deserts forests parks zoos birds fishes insects mammals
        reptiles flowers herbs spices cheeses wines beers recipes bakeries cafes diners theatres operas concerts
        festivals parades auctions galleries paintings statues coins stamps trophies races regattas marathons
        tournaments leagues referees coaches umpires surgeons hospitals clinics vaccines drugs genes enzymes minerals
        crystals metals alloys polymers fabrics carpets lamps chairs desks sofas clocks watches cameras printers
        laptops keyboards servers routers games puzzles toys dolls novels poems essays journals magazines newspapers
        authors editors translators libraries archives elections senators mayors judges lawsuits treaties battles
        regiments pilots astronauts sailors explorers expeditions caves mines quarries wells pipelines reactors
        turbines windmills orchards vineyards ranches horses dogs cats kennels podcasts broadcasts sitcoms dramas
        actors singers drummers orchestras choirs bands tickets invoices orders shipments parcels couriers warehouses
        factories suppliers vendors clients payments loans pensions scholarships courses lectures exams theses patents
        inventions meteors lighthouses monuments palaces cottages barns bunkers helicopters gliders yachts canoes
        """;

    /// <summary>Names of text columns: singular nouns.</summary>
    public const string TextColumns = """
        title director actor author genre publisher language country city region province district county village
        street captain manager coach owner sponsor venue stadium surface opponent winner loser nation club position
        nickname college hometown party candidate incumbent governor mayor senator minister president chairman founder
        architect designer builder engineer operator airline airport aircraft manufacturer model brand colour material
        shape texture flavour cuisine chef ingredient grape variety species genus family habitat climate weekday month
        holiday festival ceremony award category prize jury judge critic reviewer editor translator illustrator
        narrator composer lyricist singer vocalist guitarist drummer producer studio network channel presenter guest
        contestant partner spouse religion dialect alphabet currency bank broker auditor insurer lender tenant
        landlord agent client customer supplier vendor courier carrier route terminal junction harbour port dock
        vessel fleet flag skipper navigator pilot squadron regiment battalion commander medal weapon armour fortress
        castle dynasty monarch emperor era epoch continent island river lake basin mountain summit glacier valley
        forest crop fertilizer breed stable jockey trainer rider horse kennel hospital ward surgeon nurse disease
        symptom vaccine drug enzyme gene mineral crystal metal alloy solvent reagent device sensor processor compiler
        license protocol codec browser theme motif style technique canvas gallery museum curator donor patron parish
        suburb orchestra conductor choreographer dancer sculptor poet novelist biographer inventor physicist chemist
        """;

    /// <summary>Names of number columns.</summary>
    public const string RealColumns = """
        year rating score points goals assists wins losses draws attendance capacity population area height length
        width depth weight mass volume density speed altitude elevation latitude longitude distance duration runtime
        laps price cost fee fare salary wage income revenue profit budget debt tax tariff rent deposit balance
        interest dividend stake shares votes seats turnout majority margin percentage ratio age pages chapters
        editions copies sales downloads views visitors viewers listeners subscribers members employees students
        teachers pupils classrooms beds rooms floors storeys towers gates platforms tracks stations lanes wheels doors
        cylinders horsepower torque voltage wattage frequency wavelength amplitude temperature humidity rainfall
        snowfall pressure sunshine calories sugar fat salt fibre sodium dosage strength hardness viscosity acidity
        alcohol bitterness carats purity yield harvest acreage livestock eggs milk wool tonnage payload fuel mileage
        emissions passengers runways decks guns casualties prisoners troops tanks caps appearances tries conversions
        penalties fouls cards saves shots rebounds steals blocks turnovers innings runs wickets catches birdies bogeys
        strokes holes sets aces serves golds silvers bids quota credits grade marks absences citations samples errors
        bugs commits latency bandwidth throughput storage memory cores threads pixels resolution aperture exposure
        """;

    /// <summary>Text values: places, people, colours, animals, materials and other nouns.</summary>
    public const string Values = """
        oslo lima cairo dakar quito hanoi delhi tokyo paris berlin madrid lisbon dublin vienna prague warsaw athens
        sofia zagreb riga tallinn vilnius minsk ankara tehran baghdad riyadh muscat doha manila jakarta bangkok seoul
        beijing shanghai sydney perth auckland toronto montreal ottawa boston chicago denver dallas houston phoenix
        seattle portland atlanta miami detroit cleveland memphis nashville orlando austin bogota caracas santiago
        havana nairobi lagos accra tunis algiers rabat nolan keller garcia fischer tanaka kowalski novak silva santos
        rossi bianchi moreau dubois lefevre jansen larsen hansen nilsson virtanen horvat petrov ivanov smirnov popov
        kumar sharma patel singh ahmed hassan nguyen tran chen wang zhang yamamoto suzuki sato mitchell thompson
        anderson harrison wallace bennett coleman griffin hawkins douglas fletcher gibson lawson marshall norris
        osborne palmer quinn ramsey sanders turner underwood vaughan watkins yates zimmerman maria anna elena sophie
        clara julia laura nina paula rosa sara tina vera alice bella carmen diana emma fiona grace hannah irene jane
        karen linda martha nora olivia petra ruth simon thomas victor walter adrian bruno carlos daniel edgar felix
        george henry isaac jacob kevin marco nathan oscar peter robert samuel amber azure bronze copper crimson
        emerald golden indigo ivory jade lavender magenta maroon olive orange pearl purple ruby saffron scarlet silver
        teal turquoise violet falcon eagle tiger panther dolphin otter badger raven sparrow heron pelican cobra lynx
        jaguar leopard buffalo bison moose walrus penguin granite marble slate limestone basalt clay maple cedar
        willow birch walnut cotton linen velvet silk leather denim jazz blues reggae salsa tango waltz polka folk
        gospel disco thunder lightning rainbow tornado monsoon blizzard eclipse nebula galaxy piano violin cello
        trumpet clarinet flute harp banjo accordion chess poker rugby cricket tennis hockey lacrosse archery fencing
        rowing judo karate sailing cycling butter pepper ginger garlic cinnamon vanilla almond hazelnut mango papaya
        banana cherry apricot peach plum quince raspberry spinach turnip radish celery fennel parsley basil thyme
        lantern anchor compass hammer chisel ladder bucket basket blanket pillow mirror candle kettle saucer spoon
        alpine baltic celtic nordic pacific tropical coastal arctic urban rural royal imperial federal colonial modern
        gothic baroque ancient vintage classic premium deluxe standard compact portable electric magnetic solar lunar
        """;
}
